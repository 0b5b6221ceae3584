"""What every change of the simulated world has in common."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from sync.simulator.notices import Notice, stock_changed
from sync.simulator.options import SimulatorOptions
from sync.simulator.products import Product, Sku
from sync.simulator.rows import Row, RowIndex
from sync.simulator.shops import Shop
from sync.simulator.world import World


class Tell(Protocol):
    """Sends notices about a shop to whoever may hear of it."""

    def __call__(self, shop_id: str, /, *notices: Notice) -> None: ...


class Changes:
    """Single changes to the world, each at the world's present second, and each told as it happens.

    Every change takes a shop and returns the id of the order or product that is another now, "" if the
    shop had none to change. The options tell how late a change shows in searches.
    """

    def __init__(
        self, world: World, *, now: Callable[[], float], options: Callable[[], SimulatorOptions], tell: Tell
    ) -> None:
        self._world = world
        self._now = now
        self._options = options
        self._tell = tell
        self._rng = random.Random(f"mutations {options().seed}")

    def _tell_stock(
        self, shop: Shop, product: Product, sku: Sku, *, available: int, committed: int, cause: str
    ) -> None:
        at = int(self._now())
        told = stock_changed(shop, product, sku, available=available, committed=committed, cause=cause, at=at)
        self._tell(shop.shop_id, *told)

    def _put(self, index: RowIndex, row: Row) -> None:
        now, lag_s = self._now(), self._options().visibility_lag_s
        # The lag counts from the row's own whole second, as a reader of update_time would count it.
        index.put(row, visible_at=row.update_time + lag_s if lag_s > 0 else 0.0, now=now)
