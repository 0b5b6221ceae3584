"""What happens to orders while somebody reads them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sync.simulator import edits, lifecycle
from sync.simulator.changes import Changes
from sync.simulator.notices import Notice, address_changed, order_moved, packages_changed
from sync.simulator.products import Json, Product, Sku
from sync.simulator.rows import Row
from sync.simulator.shops import Shop

_NOT_SENT = frozenset({"AWAITING_SHIPMENT", "PARTIALLY_SHIPPING", "AWAITING_COLLECTION"})
_PACKED = frozenset({"PARTIALLY_SHIPPING", "AWAITING_COLLECTION"})
_MOST_PLACED = 50


class OrderChanges(Changes):
    """Orders are placed, move on, are cancelled, and are edited."""

    def place_order(self, shop: Shop) -> str:
        """A new UNPAID order reserves its units."""
        maker = self._world.order_makers[shop.shop_id]
        if not maker.lines.choices:
            return ""
        order = maker.place(int(self._now()))
        self._move_units(shop, order, available=-1, committed=1)
        row = self._store_order(shop, order)
        shop.open_orders.append(row.id)
        return self._tell_moved(shop, order)

    def advance_order(self, shop: Shop) -> str:
        """An open order is in its next state; units leave the reserve when the parcel does."""
        order = self._open_order(shop)
        if order is None:
            return ""
        was = order["status"]
        lifecycle.advance(order, int(self._now()), shop=shop, rng=self._rng)
        if was in lifecycle.RESERVING_STATES and order["status"] not in lifecycle.RESERVING_STATES:
            self._move_units(shop, order, available=0, committed=-1)
        self._store_order(shop, order)
        return self._tell_moved(shop, order)

    def pay_order(self, shop: Shop) -> str:
        """An UNPAID order that is not paid on delivery is paid; without one some are placed first."""
        for _ in range(_MOST_PLACED):
            order = self._find_order(shop, frozenset({"UNPAID"}), fits=lambda one: not one["is_cod"])
            if order is not None:
                lifecycle.advance(order, int(self._now()), shop=shop, rng=self._rng)
                self._store_order(shop, order)
                return self._tell_moved(shop, order)
            if not self.place_order(shop):
                break
        return ""

    def cancel_order(self, shop: Shop) -> str:
        """An open order that has not left is CANCELLED; its units are free again."""
        order = self._open_order(shop, lifecycle.CANCELLABLE_STATES)
        if order is None:
            return ""
        lifecycle.cancel(order, int(self._now()), rng=self._rng)
        self._move_units(shop, order, available=1, committed=-1)
        self._store_order(shop, order)
        return self._tell_moved(shop, order)

    def edit_address(self, shop: Shop) -> str:
        """An order that has not left goes to another address; its update_time stays."""
        order = self._find_order(shop, _NOT_SENT)
        if order is None:
            return ""
        edits.change_address(order, shop.market, rng=self._rng)
        return self._amend(shop, order, address_changed(order, at=int(self._now())))

    def edit_note(self, shop: Shop) -> str:
        """An open order has another seller's note; its update_time stays, and no topic tells of it."""
        order = self._find_order(shop, lifecycle.OPEN_STATES)
        if order is None:
            return ""
        edits.change_note(order, rng=self._rng)
        return self._amend(shop, order)

    def repack_order(self, shop: Shop) -> str:
        """An order's packages were split or combined; its update_time stays."""
        order = self._find_order(shop, _PACKED, fits=edits.can_be_repacked)
        if order is None:
            return ""
        kind = edits.repack(order, str(self._world.ids.take("package")))
        return self._amend(shop, order, packages_changed(order, kind=kind, at=int(self._now())))

    def _amend(self, shop: Shop, order: Json, *notices: Notice) -> str:
        shop.orders.amend(lifecycle.row_of(order))
        if self._options().silent_edits_notify:
            self._tell(shop.shop_id, *notices)
        return str(order["id"])

    def _tell_moved(self, shop: Shop, order: Json) -> str:
        self._tell(shop.shop_id, *order_moved(order))
        return str(order["id"])

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

    def _find_order(
        self, shop: Shop, states: frozenset[str], *, fits: Callable[[Json], bool] = lambda order: True
    ) -> Json | None:
        """An order in one of the states that fits: the first from a random place on, if there is any."""
        open_orders = shop.open_orders
        start = self._rng.randrange(len(open_orders)) if open_orders else 0
        for place in range(start, start - len(open_orders), -1):
            row = shop.orders.newest[open_orders[place]]
            if row.status in states:
                order: Json = msgspec.json.decode(row.body)
                if fits(order):
                    return order
        return None

    def _move_units(self, shop: Shop, order: Json, *, available: int, committed: int) -> None:
        touched: dict[int, tuple[Product, Sku, int, int]] = {}
        for line in order["line_items"]:
            sku_id = int(line["sku_id"])
            product = shop.products.get(shop.product_of_sku.get(sku_id, 0))
            if product is None:
                continue
            sku = next(one for one in product.skus if one.id == sku_id)
            stock = sku.stock[order["warehouse_id"]]
            touched.setdefault(sku_id, (product, sku, stock.available, stock.committed))
            if stock.available + available < 0:
                stock.available += 200
            stock.available += available
            stock.committed = max(0, stock.committed + committed)
        self._show_units(shop, order, touched)

    def _show_units(self, shop: Shop, order: Json, touched: dict[int, tuple[Product, Sku, int, int]]) -> None:
        for product in {product.id: product for product, *_ in touched.values()}.values():
            shop.product_rows.amend(product.row())
        for product, sku, free, bound in touched.values():
            stock = sku.stock[order["warehouse_id"]]
            self._tell_stock(
                shop,
                product,
                sku,
                available=stock.available - free,
                committed=stock.committed - bound,
                cause="ORDER",
            )

    def _store_order(self, shop: Shop, order: Json) -> Row:
        row = lifecycle.row_of(order)
        self._put(shop.orders, row)
        return row
