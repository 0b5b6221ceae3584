"""What changes in the shops, of itself and just where somebody reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sync.store.hints import Heard
from tests.simulation.api import Api, lag
from tests.simulation.scenario import Scenario
from tests.simulation.seller import Seller
from tests.simulation.world import World

_HOUR_S = 3600.0
_MOVES_PER_HOUR = 12


class Mover:
    """Changes records, and has TikTok Shop tell of it through ``notify``."""

    def __init__(
        self, world: World, scenario: Scenario, *, api: Api, notify: Callable[[Heard], bool]
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._api = api
        self._rng = random.Random(f"moves {scenario.seed}")
        self._moves = 0
        self._notices = 0
        self.notify = notify
        self.heard = 0

    def change(self) -> bool:
        seller, rng, now = self._rng.choice(list(self._api.sellers.values())), self._rng, self._world.epoch_s
        late_s, dice = lag(rng, self._scenario), rng.random()
        if dice < 0.6:
            self._touch(seller, "orders", late_s)
        elif dice < 0.7:
            self._announce(seller, "orders", seller.make("orders", now, lag_s=late_s))
        elif dice < 0.85:
            self._touch(seller, "products", late_s)
        elif dice < 0.88:
            self._announce(seller, "products", seller.make("products", now, lag_s=late_s))
        elif dice < 0.90 and seller.stock:
            seller.delete(rng.choice(sorted(seller.stock)), now, lag_s=late_s)
        elif dice < 0.98 and seller.stock:
            seller.stock[rng.choice(sorted(seller.stock))] = rng.randint(0, 999)
        else:
            seller.warehouses[rng.choice("123")] = rng.randint(1, 9)
        return True

    def _touch(self, seller: Seller, stream: str, late_s: float) -> None:
        keys = list(seller.table(stream).truth)
        if keys:
            key = self._rng.choice(keys)
            seller.touch(stream, key, self._world.epoch_s, lag_s=late_s)
            self._announce(seller, stream, key)

    def _announce(self, seller: Seller, stream: str, key: str) -> None:
        """TikTok Shop tells of it, now and then."""
        if self._rng.random() >= self._scenario.notices:
            return
        version = seller.table(stream).truth[key]
        changed_at = datetime.fromtimestamp(version.update_s, UTC)
        self._notices += 1
        heard = Heard(f"n{self._notices}", seller.shop_id, "default", changed_at, ((stream, key),))

        def send() -> None:
            if self.notify(heard):
                self.heard += 1

        self._world.after(self._rng.uniform(0, 5), send)

    def meet(self, seller: Seller, stream: str, keys: Sequence[str]) -> None:
        """Rows of a window change while it is paged, most likely its first ones."""
        # So many only: each change is read again for minutes, and would meet others on the way.
        if self._moves >= _MOVES_PER_HOUR * (1 + self._world.now / _HOUR_S) * self._scenario.shops:
            return
        if self._rng.random() >= self._scenario.move:
            return
        for _ in range(self._rng.randint(1, self._scenario.burst)):
            self._moves += 1
            if keys and self._rng.random() < 0.8:
                key = keys[int(len(keys) * self._rng.random() ** 2)]
                seller.touch(stream, key, self._world.epoch_s, lag_s=lag(self._rng, self._scenario))
            else:
                seller.make(stream, self._world.epoch_s, lag_s=lag(self._rng, self._scenario))
