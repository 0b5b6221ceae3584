"""The simulated content: repeatable, consistent, and as varied as the real thing."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pytest

from sync.simulator.order_calls import OrderStatus
from sync.simulator.shops import Shop
from sync.simulator.world import World, build_world

_NOW = 1_790_000_000
_STATES = OrderStatus.__args__  # type: ignore[attr-defined]  # a Literal's values
_TIMES = {
    "ON_HOLD": ("create_time",),
    "AWAITING_COLLECTION": ("create_time", "rts_time"),
    "IN_TRANSIT": ("create_time", "rts_time", "collection_time"),
    "DELIVERED": ("create_time", "rts_time", "collection_time", "delivery_time"),
    "COMPLETED": ("create_time", "rts_time", "collection_time", "delivery_time"),
    "CANCELLED": ("create_time", "cancel_time"),
}


@lru_cache(maxsize=1)
def _world() -> World:
    return build_world(
        seed=3, shops=8, orders_per_shop=1_500, products_per_shop=60, flash_sale_orders=600, now=_NOW
    )


def _orders(shop: Shop) -> list[dict[str, Any]]:
    return [json.loads(body) for body in shop.orders.bodies()]


def _shops() -> list[Shop]:
    return list(_world().shops.values())


def test_the_same_seed_makes_the_same_world_and_another_one_does_not() -> None:
    def bodies(seed: int) -> list[bytes]:
        world = build_world(seed=seed, shops=2, orders_per_shop=50, products_per_shop=10, now=_NOW)
        return [
            body
            for shop in world.shops.values()
            for body in (*shop.orders.bodies(), *shop.product_rows.bodies())
        ]

    assert bodies(3) == bodies(3)
    assert bodies(3) != bodies(4)


def test_the_default_shops_belong_to_sellers_of_both_kinds() -> None:
    shops = list(build_world(orders_per_shop=0, products_per_shop=9).shops.values())
    assert [(shop.market.region, shop.market.currency) for shop in shops] == [
        ("US", "USD"),
        ("GB", "GBP"),
        ("DE", "EUR"),
        ("VN", "VND"),
        ("ID", "IDR"),
    ]
    held = Counter((shop.seller.open_id, shop.seller.seller_type) for shop in shops)
    assert sorted((kind, count) for (_, kind), count in held.items()) == [
        ("CROSS_BORDER", 2),
        ("LOCAL", 1),
        ("LOCAL", 1),
        ("LOCAL", 1),
    ]


def test_further_shops_go_round_the_markets_and_have_names_of_their_own() -> None:
    world = build_world(shops=17, orders_per_shop=0, products_per_shop=8)
    regions = [shop.market.region for shop in world.shops.values()]
    assert regions[:8] == regions[8:16]
    assert (
        len({shop.name for shop in world.shops.values()})
        == len({shop.cipher for shop in world.shops.values()})
        == 17
    )


@pytest.mark.parametrize("place", range(8))
def test_every_shop_has_orders_in_every_state_with_times_in_order(place: int) -> None:
    shop = _shops()[place]
    orders = _orders(shop)
    assert {order["status"] for order in orders} == set(_STATES)
    for order in orders:
        names = _TIMES.get(order["status"], ("create_time",))
        times = [order[name] for name in names] + [order["update_time"]]
        assert times == sorted(times)
        assert times[-1] <= _NOW
        assert (
            order["status"] in ("UNPAID", "CANCELLED")
            or order["is_cod"]
            or order["paid_time"] > order["create_time"]
        )


def test_a_final_time_is_the_update_time_of_its_state() -> None:
    for order in _orders(_shops()[1]):
        if order["status"] in ("CANCELLED", "DELIVERED", "IN_TRANSIT"):
            name = {"CANCELLED": "cancel_time", "DELIVERED": "delivery_time", "IN_TRANSIT": "collection_time"}
            assert order[name[order["status"]]] == order["update_time"]


def test_ids_are_long_digit_strings_and_never_repeat() -> None:
    seen: set[str] = set()
    for shop in _shops():
        for order in _orders(shop):
            for record in (order, *order["line_items"]):
                assert re.fullmatch(r"\d{18,19}", record["id"])
                assert int(record["id"]) > 2**53
                assert record["id"] not in seen
                seen.add(record["id"])


def test_keys_are_alphabetical_at_every_depth() -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            for part in value.values():
                check(part)
        elif isinstance(value, list):
            for part in value:
                check(part)

    for shop in _shops():
        for body in (*list(shop.orders.bodies())[:200], *shop.product_rows.bodies()):
            check(json.loads(body))


@pytest.mark.parametrize("place", range(8))
def test_money_adds_up_and_has_the_currencys_digits(place: int) -> None:
    shop = _shops()[place]
    shape = r"0|[1-9]\d*|\d+\.\d\d" if shop.market.decimals else r"\d+"
    for order in _orders(shop):
        payment = order["payment"]
        assert payment["currency"] == shop.market.currency
        amounts = {name: Decimal(text) for name, text in payment.items() if name != "currency"}
        assert all(re.fullmatch(shape, text) for name, text in payment.items() if name != "currency")
        assert amounts["sub_total"] == sum(Decimal(line["sale_price"]) for line in order["line_items"])
        fees = (
            "buyer_service_fee",
            "handling_fee",
            "shipping_insurance_fee",
            "retail_delivery_fee",
            "small_order_fee",
        )
        extra = sum(amounts.get(name, Decimal(0)) for name in fees)
        assert (
            amounts["total_amount"] == amounts["sub_total"] + amounts["shipping_fee"] + amounts["tax"] + extra
        )
        for line in order["line_items"]:
            cuts = Decimal(line["seller_discount"]) + Decimal(line["platform_discount"])
            assert Decimal(line["sale_price"]) == Decimal(line["original_price"]) - cuts


def test_the_flash_sale_puts_its_orders_into_one_minute_of_creation_and_of_update() -> None:
    rows = list(_shops()[0].orders.newest.values())
    for times in ([row.create_time for row in rows], [row.update_time for row in rows]):
        ((_, most), (_, next_most)) = Counter(at // 60 for at in times).most_common(2)
        assert 600 <= most <= 603
        assert next_most < 30


def test_weekends_and_evenings_sell_more_than_weekday_nights() -> None:
    rows = _shops()[1].orders.newest.values()
    hours = Counter(row.create_time // 3600 % 24 for row in rows)
    assert sum(hours[hour] for hour in range(18, 23)) > 3 * sum(hours[hour] for hour in range(1, 6))
    days = Counter((row.create_time // 86_400 + 3) % 7 for row in rows)
    assert days[5] + days[6] > days[1] + days[2]


def test_an_address_shows_no_more_than_the_orders_state_allows() -> None:
    for order in _orders(_shops()[1]):
        address = order["recipient_address"]
        if order["status"] in ("UNPAID", "ON_HOLD"):
            assert address["name"] == address["full_address"] == ""
        elif order["status"] != "CANCELLED" and order["shipping_type"] == "TIKTOK":
            assert "***" in address["name"]
            assert "*****" in address["phone_number"]
            assert address["full_address"]


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        (0, {"is_exchange_order", "fast_delivery_program"}),
        (3, {"pick_up_cut_off_time", "fulfillment_priority_level", "order_rights"}),
        (4, {"commerce_platform", "recommended_shipping_time"}),
        (5, {"fast_dispatch_sla_time"}),
        (7, {"cpf", "cpf_name", "need_upload_invoice"}),
    ],
)
def test_markets_have_the_fields_that_only_they_send(place: int, fields: set[str]) -> None:
    here = {name for order in _orders(_shops()[place]) for name in order}
    assert fields <= here
    assert fields.isdisjoint({name for order in _orders(_shops()[2]) for name in order})


def test_nested_market_fields_are_where_they_belong() -> None:
    by_region = {shop.market.region: _orders(shop) for shop in _shops()}
    assert any("pfand_fee" in line for order in by_region["DE"] for line in order["line_items"])
    assert any("item_tax" in line for order in by_region["US"] for line in order["line_items"])
    assert all("retail_delivery_fee" in order["payment"] for order in by_region["US"])
    assert any("post_town" in order["recipient_address"] for order in by_region["GB"])
    assert any("first_name_local_script" in order["recipient_address"] for order in by_region["JP"])
    assert not any("pfand_fee" in line for order in by_region["US"] for line in order["line_items"])


def test_rare_kinds_of_order_exist() -> None:
    orders = [order for shop in _shops() for order in _orders(shop)]
    lines = [line for order in orders for line in order["line_items"]]
    assert any(order["is_sample_order"] for order in orders)
    assert any(order["is_replacement_order"] and order["replaced_order_id"] for order in orders)
    assert any(order.get("order_type") == "PRE_ORDER" for order in orders)
    assert any(line["is_gift"] for line in lines)
    assert any(line.get("combined_listing_skus") for line in lines)
    assert any(
        len({line["sku_id"] for line in order["line_items"]}) < len(order["line_items"]) for order in orders
    )
    assert {order.get("seller_note", "absent") for order in orders} >= {"absent", "VIP"}
    assert {order["buyer_message"] for order in orders} >= {""}


def test_reserved_units_are_those_of_orders_that_have_not_left() -> None:
    for shop in _shops():
        waiting: Counter[tuple[str, str]] = Counter()
        for order in _orders(shop):
            if order["status"] in (
                "UNPAID",
                "ON_HOLD",
                "AWAITING_SHIPMENT",
                "PARTIALLY_SHIPPING",
                "AWAITING_COLLECTION",
            ):
                waiting.update((line["sku_id"], order["warehouse_id"]) for line in order["line_items"])
        reserved = {
            (str(sku.id), warehouse_id): stock.committed
            for product in shop.products.values()
            for sku in product.skus
            for warehouse_id, stock in sku.stock.items()
        }
        assert {key: count for key, count in reserved.items() if count} == dict(waiting)


def test_search_records_and_inventory_agree_about_stock() -> None:
    for product in _shops()[0].products.values():
        listed = {
            (sku["id"], stock["warehouse_id"]): stock["quantity"]
            for sku in product.search_record()["skus"]
            for stock in sku["inventory"]
        }
        counted = {
            (sku["id"], stock["warehouse_id"]): stock["available_quantity"]
            for sku in product.inventory_record()["skus"]
            for stock in sku["warehouse_inventory"]
        }
        assert listed == counted
