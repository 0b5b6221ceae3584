"""The parts of one running simulator, and its clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sync.simulator.accounts import Accounts
from sync.simulator.faults import Faults
from sync.simulator.limits import Meter
from sync.simulator.mutations import Mutations
from sync.simulator.mutator import Mutator
from sync.simulator.notices import consent_withdrawn
from sync.simulator.notifier import Notifier
from sync.simulator.options import SimulatorOptions
from sync.simulator.searches import Pager
from sync.simulator.shops import Shop
from sync.simulator.webhooks import Webhooks
from sync.simulator.world import World


@dataclass(slots=True)
class Simulation:
    """Everything a request handler needs; ``options`` may be replaced at any time.

    ``clock`` tells what time it is in the simulated world, in unix seconds.
    """

    world: World
    options: SimulatorOptions
    rng: random.Random
    meter: Meter
    faults: Faults
    pager: Pager
    clock: Callable[[], float] = time.time
    webhooks: Webhooks = field(default_factory=Webhooks)
    accounts: Accounts = field(init=False)
    notifier: Notifier = field(init=False)
    mutations: Mutations = field(init=False)
    mutator: Mutator = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.world.sellers, options=lambda: self.options, now=self.clock)
        self.notifier = Notifier(
            self.webhooks, options=lambda: self.options, now=self.clock, is_heard=self._is_heard
        )
        self.mutations = Mutations(
            self.world, now=self.clock, options=lambda: self.options, tell=self.notifier.tell
        )
        self.mutator = Mutator(self.mutations.mutate)

    def now(self) -> float:
        """The server's clock in unix seconds, wrong by whatever fault is on."""
        return self.clock() + self.faults.clock_offset_s()

    def request_id(self) -> str:
        """A fresh request id of the platform's shape: a time and random hex digits."""
        return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + f"{self.rng.getrandbits(80):020X}"

    def revoke(self, open_id: str) -> None:
        """The seller's consent is withdrawn, which is the last thing that is told about the shops."""
        heard = [shop for shop in self.shops_of(open_id) if self._is_heard(shop.shop_id)]
        self.accounts.revoke(open_id)
        for shop in heard:
            self.notifier.send(shop.shop_id, consent_withdrawn(shop.shop_id))

    def shops_of(self, open_id: str) -> list[Shop]:
        """The seller's shops that the present consent covers."""
        allowed = self.accounts.consents[open_id].shop_ids
        shops = self.world.shops_of(open_id)
        return shops if allowed is None else [shop for shop in shops if shop.shop_id in allowed]

    def _is_heard(self, shop_id: str) -> bool:
        shop = self.world.shops[shop_id]
        consent = self.accounts.consents[shop.seller.open_id]
        return consent.is_begun and consent.is_given and consent.covers(shop_id)

    def settle(self, shop: Shop) -> None:
        """Changes of the shop whose visibility lag is over can be seen."""
        now = self.clock()
        shop.orders.settle(now)
        shop.product_rows.settle(now)


def make_simulation(
    world: World, options: SimulatorOptions, *, clock: Callable[[], float] = time.time
) -> Simulation:
    """A simulation of this world, repeatable from the options' seed as far as the clock allows."""
    rng = random.Random(f"server {options.seed}")
    faults = Faults(random.Random(f"faults {options.seed}"))
    pager = Pager(random.Random(f"pages {options.seed}"))
    return Simulation(world, options, rng, Meter(), faults, pager, clock)
