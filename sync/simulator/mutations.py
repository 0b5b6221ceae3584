"""What happens in the shops while somebody reads them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from sync.simulator import lifecycle
from sync.simulator.catalog import GOODS, compose_title, compose_variants
from sync.simulator.products import Json, Product
from sync.simulator.rows import Row, RowIndex
from sync.simulator.shops import Shop
from sync.simulator.world import World

_TICK_S = 0.02


class Mutations:
    """Single changes to the world, each at the world's present second.

    ``lag_s`` tells how late a change of an order or product shows in searches.
    """

    def __init__(
        self, world: World, *, now: Callable[[], float], lag_s: Callable[[], float], seed: int
    ) -> None:
        self._world = world
        self._now = now
        self._lag_s = lag_s
        self._rng = random.Random(f"mutations {seed}")
        self.counts: Counter[str] = Counter()
        self._kinds: tuple[tuple[Callable[[Shop], bool], int], ...] = (
            (self.advance_order, 40),
            (self.place_order, 18),
            (self.cancel_order, 5),
            (self.move_stock, 22),
            (self.edit_product, 8),
            (self.create_product, 3),
            (self.change_skus, 3),
            (self.delete_product, 1),
        )

    def mutate(self) -> str:
        """One change of a random kind in a random shop; returns the kind's name."""
        kinds = [kind for kind, _ in self._kinds]
        weights = [weight for _, weight in self._kinds]
        shops = list(self._world.shops.values())
        while True:
            (kind,) = self._rng.choices(kinds, weights)
            if kind(self._rng.choice(shops)):
                self.counts[kind.__name__] += 1
                return kind.__name__

    def advance_order(self, shop: Shop) -> bool:
        """An open order is in its next state; units leave the reserve when the parcel does."""
        order = self._open_order(shop)
        if order is None:
            return False
        was = order["status"]
        lifecycle.advance(order, int(self._now()), shop=shop, rng=self._rng)
        if was in lifecycle.RESERVING_STATES and order["status"] not in lifecycle.RESERVING_STATES:
            self._move_units(shop, order, available=0, committed=-1)
        self._store_order(shop, order)
        return True

    def cancel_order(self, shop: Shop) -> bool:
        """An open order that has not left is CANCELLED; its units are free again."""
        order = self._open_order(shop, lifecycle.CANCELLABLE_STATES)
        if order is None:
            return False
        lifecycle.cancel(order, int(self._now()), rng=self._rng)
        self._move_units(shop, order, available=1, committed=-1)
        self._store_order(shop, order)
        return True

    def place_order(self, shop: Shop) -> bool:
        """A new UNPAID order reserves its units."""
        maker = self._world.order_makers[shop.shop_id]
        if not maker.lines.choices:
            return False
        order = maker.place(int(self._now()))
        self._move_units(shop, order, available=-1, committed=1)
        row = self._store_order(shop, order)
        shop.open_orders.append(row.id)
        return True

    def move_stock(self, shop: Shop) -> bool:
        """One SKU's stock in one warehouse changes; the product's update_time does not."""
        product = self._product(shop)
        if product is None:
            return False
        sku = self._rng.choice(product.skus)
        stock = self._rng.choice(list(sku.stock.values()))
        stock.available = max(0, stock.available + self._rng.choice((-3, -2, -1, 1, 2, 60)))
        shop.product_rows.amend(product.row())
        return True

    def edit_product(self, shop: Shop) -> bool:
        """A product has a new title, a new price, or was switched on or off."""
        product = self._product(shop)
        if product is None:
            return False
        kind = self._rng.random()
        if kind < 0.4:
            product.title = compose_title(product.good, shop.market.region, rng=self._rng)
        elif kind < 0.9:
            sku = self._rng.choice(product.skus)
            sku.price = shop.market.minor(product.good.usd * self._rng.uniform(0.7, 1.3))
        else:
            product.status = "SELLER_DEACTIVATED" if product.status == "ACTIVATE" else "ACTIVATE"
        self._store_product(shop, product)
        return True

    def create_product(self, shop: Shop) -> bool:
        """A new product is listed."""
        now = int(self._now())
        product = self._world.makers[shop.shop_id].make(
            self._rng.choice(GOODS), now, updated=now, status="ACTIVATE"
        )
        shop.products[product.id] = product
        shop.product_of_sku |= {sku.id: product.id for sku in product.skus}
        self._store_product(shop, product)
        return True

    def change_skus(self, shop: Shop) -> bool:
        """A product has one SKU more, or one less."""
        product = self._product(shop)
        if product is None:
            return False
        if len(product.skus) > 1 and self._rng.random() < 0.5:
            gone = product.skus.pop(self._rng.randrange(len(product.skus)))
            del shop.product_of_sku[gone.id]
        else:
            taken = {sku.variant for sku in product.skus}
            free = [one for one in compose_variants(product.good, 99, rng=self._rng) if one not in taken]
            if not free:
                return False
            sku = self._world.makers[shop.shop_id].make_sku(product.good, free[0])
            product.skus.append(sku)
            shop.product_of_sku[sku.id] = product.id
        self._store_product(shop, product)
        return True

    def delete_product(self, shop: Shop) -> bool:
        """A product's status is DELETED; a shop keeps at least eight others."""
        product = self._product(shop)
        if product is None or len(shop.products) - shop.product_rows.shown_by_status["DELETED"] <= 8:
            return False
        product.status = "DELETED"
        self._store_product(shop, product)
        return True

    def _product(self, shop: Shop) -> Product | None:
        ids = list(shop.products)
        for _ in range(20):
            product = shop.products[self._rng.choice(ids)]
            if product.status in ("ACTIVATE", "SELLER_DEACTIVATED"):
                return product
        return None

    def _open_order(self, shop: Shop, states: frozenset[str] = lifecycle.OPEN_STATES) -> Json | None:
        open_orders = shop.open_orders
        for _ in range(20):
            if not open_orders:
                return None
            place = self._rng.randrange(len(open_orders))
            row = shop.orders.newest[open_orders[place]]
            if row.status in states:
                order: Json = msgspec.json.decode(row.body)
                return order
            if row.status not in lifecycle.OPEN_STATES:
                open_orders[place] = open_orders[-1]
                open_orders.pop()
        return None

    def _move_units(self, shop: Shop, order: Json, *, available: int, committed: int) -> None:
        touched: dict[int, Product] = {}
        for line in order["line_items"]:
            sku_id = int(line["sku_id"])
            product = shop.products.get(shop.product_of_sku.get(sku_id, 0))
            if product is None:
                continue
            sku = next(one for one in product.skus if one.id == sku_id)
            stock = sku.stock[order["warehouse_id"]]
            if stock.available + available < 0:
                stock.available += 200
            stock.available += available
            stock.committed = max(0, stock.committed + committed)
            touched[product.id] = product
        for product in touched.values():
            shop.product_rows.amend(product.row())

    def _store_order(self, shop: Shop, order: Json) -> Row:
        row = lifecycle.row_of(order)
        self._put(shop.orders, row)
        return row

    def _store_product(self, shop: Shop, product: Product) -> None:
        product.update_time = int(self._now())
        self._put(shop.product_rows, product.row())
        self._world.order_makers[shop.shop_id].lines.offer(shop.products.values())

    def _put(self, index: RowIndex, row: Row) -> None:
        now, lag_s = self._now(), self._lag_s()
        # The lag counts from the row's own whole second, as a reader of update_time would count it.
        index.put(row, visible_at=row.update_time + lag_s if lag_s > 0 else 0.0, now=now)


class Mutator:
    """Keeps mutating at a chosen rate until told otherwise."""

    def __init__(self, mutate: Callable[[], object]) -> None:
        self._mutate = mutate
        self._task: asyncio.Task[None] | None = None
        self.per_second = 0.0

    async def set_rate(self, per_second: float) -> None:
        """Mutations go on at this rate; with 0 the last one is done when this returns.

        Raises what a mutation raised since the last call, if one did.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
        self.per_second = per_second
        if per_second > 0:
            self._task = asyncio.create_task(self._run(per_second))

    async def _run(self, per_second: float) -> None:
        clock = asyncio.get_running_loop().time
        start, done = clock(), 0
        while True:
            due = int((clock() - start) * per_second)
            for _ in range(min(due - done, 500)):
                self._mutate()
            done = due
            await asyncio.sleep(_TICK_S)
