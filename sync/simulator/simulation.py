"""The parts of one running simulator, and its clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sync.simulator.accounts import Accounts
from sync.simulator.faults import Faults
from sync.simulator.limits import Meter
from sync.simulator.mutations import Mutations, Mutator
from sync.simulator.options import SimulatorOptions
from sync.simulator.searches import Pager
from sync.simulator.shops import Shop
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
    accounts: Accounts = field(init=False)
    mutations: Mutations = field(init=False)
    mutator: Mutator = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.world.sellers, options=lambda: self.options, now=self.clock)
        self.mutations = Mutations(
            self.world, now=self.clock, lag_s=lambda: self.options.visibility_lag_s, seed=self.options.seed
        )
        self.mutator = Mutator(self.mutations.mutate)

    def now(self) -> float:
        """The server's clock in unix seconds, wrong by whatever fault is on."""
        return self.clock() + self.faults.clock_offset_s()

    def request_id(self) -> str:
        """A fresh request id of the platform's shape: a time and random hex digits."""
        return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + f"{self.rng.getrandbits(80):020X}"

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
