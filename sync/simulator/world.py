"""A whole simulated platform's content, built from a seed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from sync.simulator import lifecycle
from sync.simulator.catalog import GOODS
from sync.simulator.identifiers import Identifiers
from sync.simulator.markets import MARKETS, Market
from sync.simulator.orders import OrderMaker
from sync.simulator.products import Json, ProductMaker
from sync.simulator.rows import Row, RowIndex
from sync.simulator.shops import Seller, Shop, make_buyers, make_warehouses
from sync.simulator.traffic import Traffic

_SHOP_NAMES = (
    "Maomao Beauty",
    "Harbor & Pine",
    "Lichtblick Laden",
    "Nhà Của Mây",
    "Toko Ceria",
    "Baan Dee",
    "こもれび商店",
    "Loja Girassol",
)
_STATUSES = ("ACTIVATE",) * 14 + (
    "SELLER_DEACTIVATED",
    "PENDING",
    "FAILED",
    "DRAFT",
    "PLATFORM_DEACTIVATED",
    "FREEZE",
    "DELETED",
)
_CROSS_BORDER_REGIONS = ("GB", "DE")


@dataclass(slots=True)
class World:
    """Everything the simulated platform knows, in memory; mutations change it in place.

    ``makers`` and ``order_makers`` keep placing products and orders for a shop after the build.
    """

    rng: random.Random
    ids: Identifiers
    sellers: list[Seller] = field(default_factory=list)
    shops: dict[str, Shop] = field(default_factory=dict)
    shop_by_cipher: dict[str, Shop] = field(default_factory=dict)
    makers: dict[str, ProductMaker] = field(default_factory=dict)
    order_makers: dict[str, OrderMaker] = field(default_factory=dict)
    _by_seller: dict[str, list[Shop]] = field(default_factory=dict)

    def shops_of(self, open_id: str) -> list[Shop]:
        """The shops that an authorization of this seller covers."""
        return self._by_seller.get(open_id, [])

    def add(self, shop: Shop) -> None:
        """The shop can be found by id, by cipher, and with its seller, known from the first shop on."""
        if shop.seller.open_id not in self._by_seller:
            self.sellers.append(shop.seller)
        self.shops[shop.shop_id] = shop
        self.shop_by_cipher[shop.cipher] = shop
        self._by_seller.setdefault(shop.seller.open_id, []).append(shop)


def build_world(
    *,
    seed: int = 1,
    shops: int = 5,
    orders_per_shop: int = 2_000,
    products_per_shop: int = 120,
    history_days: int = 90,
    flash_sale_orders: int = 800,
    now: float | None = None,
) -> World:
    """A world that is the same for the same arguments, with a history that ends at ``now``.

    The first shop's flash sale is part of its ``orders_per_shop``: at most half of them share one
    minute of creation, and one minute of last update. Raises ValueError for orders without products.
    """
    if orders_per_shop and not products_per_shop:
        raise ValueError("a shop without products has no orders: ask for products_per_shop of at least 1")
    rng = random.Random(seed)
    world = World(rng=rng, ids=Identifiers(rng))
    end = int(time.time() if now is None else now)
    for place in range(shops):
        shop = _add_shop(world, place, buyers=min(max(orders_per_shop // 8, 12), 300))
        _fill_catalog(world, shop, count=products_per_shop, history_days=history_days, now=end)
        flash = min(flash_sale_orders, orders_per_shop // 2) if place == 0 else 0
        _fill_orders(world, shop, count=orders_per_shop, flash=flash, history_days=history_days, now=end)
    return world


def _add_shop(world: World, place: int, *, buyers: int) -> Shop:
    market = MARKETS[place % len(MARKETS)]
    seller = _seller_for(world, market, place=place)
    shop = Shop(
        shop_id=str(world.ids.take("shop")),
        name=_SHOP_NAMES[place % len(MARKETS)]
        + (f" {place // len(MARKETS) + 1}" if place >= len(MARKETS) else ""),
        code=f"{market.region}LCBA{world.rng.randrange(36**4):06X}",
        cipher=world.ids.opaque("GCP_", 26),
        seller=seller,
        market=market,
        warehouses=make_warehouses(market, seller.seller_type, ids=world.ids, rng=world.rng),
        buyers=make_buyers(market, buyers, ids=world.ids, rng=world.rng),
    )
    world.add(shop)
    return shop


def _seller_for(world: World, market: Market, *, place: int) -> Seller:
    """One cross-border seller for each round of the markets; every other shop has a seller of its own."""
    turn = place // len(MARKETS) + 1
    if market.region not in _CROSS_BORDER_REGIONS:
        name = f"{_SHOP_NAMES[place % len(MARKETS)]} Ltd {turn}"
        return Seller(str(world.ids.take("seller")), name, market.region, "LOCAL")
    name = f"Shenzhen Starlight Trading {turn}"
    if world.sellers and world.sellers[-1].name == name:
        return world.sellers[-1]
    return Seller(str(world.ids.take("seller")), name, "CN", "CROSS_BORDER")


def _fill_catalog(world: World, shop: Shop, *, count: int, history_days: int, now: int) -> None:
    rng = world.rng
    is_cross_border = shop.seller.seller_type == "CROSS_BORDER"
    maker = ProductMaker(shop.market, shop.sales_warehouses, is_cross_border, world.ids, rng)
    world.makers[shop.shop_id] = maker
    oldest = now - (history_days + 120) * 86_400
    rows = []
    for place in range(count):
        # Orders need something to sell, so the first listings are always live ones.
        status = "ACTIVATE" if place < 8 else rng.choice(_STATUSES)
        created = rng.randrange(oldest, now - 86_400)
        updated = rng.randrange(created, now)
        product = maker.make(
            GOODS[(place * 7 + rng.randrange(3)) % len(GOODS)], created, updated=updated, status=status
        )
        shop.products[product.id] = product
        shop.product_of_sku |= {sku.id: product.id for sku in product.skus}
        rows.append(product.row())
    shop.product_rows = RowIndex(rows)


def _fill_orders(world: World, shop: Shop, *, count: int, flash: int, history_days: int, now: int) -> None:
    rng = world.rng
    maker = OrderMaker(shop, world.ids, rng)
    world.order_makers[shop.shop_id] = maker
    traffic = Traffic(now=now, days=history_days, utc_offset_h=shop.market.utc_offset_h, rng=rng)
    rows = []
    flash_start, flash_end = traffic.flash_minutes()
    for place, created in enumerate(sorted(traffic.creation_times(count - flash, flash))):
        order = maker.place(created)
        if flash_start <= created < flash_start + 60 and flash:
            _rush(order, flash_end + place % 60, shop=shop, rng=rng)
        else:
            lifecycle.live_until(order, now, shop=shop, rng=rng)
        row = lifecycle.row_of(order)
        rows.append(row)
        if row.status in lifecycle.OPEN_STATES:
            shop.open_orders.append(row.id)
            if row.status in lifecycle.RESERVING_STATES:
                _reserve(shop, order)
    shop.orders = RowIndex(rows)
    shop.product_rows = RowIndex(product.row() for product in shop.products.values())


def _rush(order: Json, completed: int, *, shop: Shop, rng: random.Random) -> None:
    """Walk a flash sale's order quickly to COMPLETED, all of them within one minute."""
    start: int = order["create_time"]
    step = max((completed - start) // 8, 1)
    at = start
    while order["status"] != "COMPLETED":
        at += step
        lifecycle.advance(order, min(at, completed), shop=shop, rng=rng)
    order["update_time"] = completed


def _reserve(shop: Shop, order: Json) -> None:
    for line in order["line_items"]:
        product = shop.products[shop.product_of_sku[int(line["sku_id"])]]
        for sku in product.skus:
            if sku.id == int(line["sku_id"]):
                sku.stock[order["warehouse_id"]].committed += 1


__all__ = ["Row", "World", "build_world"]
