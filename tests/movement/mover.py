"""Moves rows before each request, where it hurts: around the place that is being paged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sync.clock import ApiClock
from sync.simulator import lifecycle
from sync.simulator.calls import Call
from sync.simulator.faults import Faults
from sync.simulator.replies import Reply
from sync.simulator.rows import Row, RowIndex
from sync.simulator.searches import Page
from sync.simulator.shops import Shop
from sync.simulator.simulation import Simulation
from tests.movement.scenario import LOOKBACK_S, Scenario

START = 1_798_761_600.0  # 2027-01-01
_TIMES = ("update_time_ge", "update_time_lt", "update_time_le")


class Clock(ApiClock):
    """The time of the whole run, at TikTok and here. It passes only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START
        self.is_known = True

    def time(self) -> float:
        return self._now_s

    monotonic = time

    def learn(self, *_: object, **__: object) -> None:
        """Nothing: there is only one clock."""

    def advance(self, seconds: float) -> None:
        """It is later by so much."""
        self._now_s += seconds


@dataclass(slots=True)
class Interference(Faults):
    """Faults, and something that happens before each request is answered."""

    before: Callable[[Call], None] = field(kw_only=True)
    holds_counts: bool = False
    _counts: dict[bytes, int | None] = field(default_factory=dict)

    def answer(self, call: Call) -> Reply | None:
        self.before(call)
        return super(Interference, self).answer(call)

    def change_page(self, call: Call, page: Page) -> None:
        if self.holds_counts and page.is_paged:
            if "page_token" not in call.query:
                self._counts[call.body] = page.total
            page.total = self._counts[call.body]
        super(Interference, self).change_page(call, page)


class Mover:
    """Changes one shop as its scenario says, the same way each time for the same requests."""

    def __init__(self, simulation: Simulation, shop: Shop, scenario: Scenario, *, clock: Clock) -> None:
        self._simulation = simulation
        self._shop = shop
        self._scenario = scenario
        self._clock = clock
        self._rng = random.Random(f"mover {scenario.seed}")
        self._pages: Counter[bytes] = Counter()
        self.is_moving = True
        self.requests = 0
        self.moved = 0
        self.on_request: Callable[[], None] | None = None

    def meet(self, call: Call) -> None:
        """Called before each request: time passes, and now and then something changes."""
        if call.shop is None:
            return
        self.requests += 1
        self._clock.advance(self._rng.random() * self._scenario.tick_s)
        self._simulation.settle(self._shop)
        if self.on_request is not None:
            self.on_request()
        if not self.is_moving or self._rng.random() >= self._scenario.move:
            return
        for _ in range(self._rng.randint(1, self._scenario.burst)):
            if call.path.endswith("/orders/search"):
                self._move_near(call, self._shop.orders, self.touch_order)
                if self._scenario.balances:
                    self._show_late(msgspec.json.decode(call.body)["update_time_lt"])
            elif call.path.endswith("/products/search"):
                self._move_near(call, self._shop.product_rows, self.touch_product)
            self.moved += 1
            if self._rng.random() < 0.3:
                self.stir(1)

    def stir(self, changes: int) -> None:
        """So many changes of any kind anywhere: orders come, products are edited, stock moves."""
        for _ in range(changes):
            self._simulation.mutations.mutate()

    def touch_order(self, order_id: int) -> None:
        """The order has moved on, or where it cannot, has another note; it was updated now."""
        shop, now = self._shop, int(self._clock.time())
        order: dict[str, Any] = msgspec.json.decode(shop.orders.newest[order_id].body)
        if order["status"] in lifecycle.OPEN_STATES:
            lifecycle.advance(order, now, shop=shop, rng=self._rng)
        else:
            order |= {"seller_note": f"note {self._rng.random()}", "update_time": now}
        self._put(shop.orders, lifecycle.row_of(order))

    def touch_product(self, product_id: int) -> None:
        """The product has another title; it was updated now."""
        product = self._shop.products[product_id]
        product.title = f"{product.title.split(' #')[0]} #{self._rng.randrange(10**6)}"
        product.update_time = int(self._clock.time())
        self._put(self._shop.product_rows, product.row())

    def _put(self, index: RowIndex, row: Row) -> None:
        lag_s = self._scenario.lag_s
        index.put(row, visible_at=row.update_time + lag_s if lag_s else 0.0, now=self._clock.time())

    def _move_near(self, call: Call, index: RowIndex, touch: Callable[[int], None]) -> None:
        """One row of the window that is asked for: seldom anywhere, mostly just behind or just ahead."""
        body = msgspec.json.decode(call.body)
        ge, lt, le = (body.get(name) for name in _TIMES)
        keys = index.ordered("update_time")
        low = keys.bisect_left((ge or 0, 0))
        high = keys.bisect_left((lt if lt is not None else (le or 0) + 1, 0))
        if high <= low:
            return
        at = self._place(call)
        reach, rows = self._scenario.page_size * self._scenario.reach, high - low
        roll = self._rng.random()
        if roll < 0.15:
            rank = self._rng.randrange(rows)
        elif roll < 0.75:
            rank = self._rng.randint(at - reach, at)
        else:
            rank = self._rng.randint(at, at + reach)
        rank = min(max(rank, 0), rows - 1)
        # Orders come oldest first, products newest first.
        touch(keys[low + rank if index is self._shop.orders else high - 1 - rank][1])

    def _show_late(self, until: int) -> None:
        """An order of the window's last second shows only now, where that is no later than allowed."""
        if self._clock.time() - until < LOOKBACK_S - 1:
            order = self._simulation.world.order_makers[self._shop.shop_id].place(until - 1)
            self._shop.orders.put(lifecycle.row_of(order))

    def _place(self, call: Call) -> int:
        """About how many rows of the window were shown already."""
        if "page_token" not in call.query:
            self._pages[call.body] = 0
        else:
            self._pages[call.body] += 1
        return self._pages[call.body] * self._scenario.page_size


def reshape(shop: Shop, scenario: Scenario, *, clock: Clock) -> None:
    """The orders stand as the scenario wants them: crowds in one second, in one minute, just now."""
    rng = random.Random(f"shape {scenario.seed}")
    end = int(clock.time()) - 60
    second = end - rng.randrange(30, scenario.days * 86_400)
    minute = end - rng.randrange(60, scenario.days * 86_400)
    rows = []
    for row in shop.orders.newest.values():
        roll = rng.random()
        if roll < scenario.crowd:
            rows.append(_at(row, second))
        elif roll < scenario.crowd + (1 - scenario.crowd) * scenario.rush:
            rows.append(_at(row, minute + rng.randrange(60)))
        elif rng.random() < scenario.fresh:
            rows.append(_at(row, end + 60 - rng.randrange(1, 40)))
        else:
            rows.append(row)
    shop.orders = RowIndex(rows)


def _at(row: Row, update_time: int) -> Row:
    order: dict[str, Any] = msgspec.json.decode(row.body)
    return lifecycle.row_of(order | {"update_time": update_time})
