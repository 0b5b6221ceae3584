"""Fields that only some markets' orders have, and the rarer kinds of order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync.simulator.line_items import LineMaker
from sync.simulator.markets import Market
from sync.simulator.products import Json

_DAY_S = 86_400
_NOTES = ("VIP", "check stock first", "wrong size last time")


def market_fees(market: Market, subtotal: int, *, rng: random.Random) -> dict[str, int]:
    """The fees this market adds to an order's total, in minor units by the payment's field name."""
    if market.region == "US":
        delivery = 29 if rng.random() < 0.1 else 0
        return {"retail_delivery_fee": delivery, "item_insurance_fee": 0, "item_insurance_tax": 0}
    if market.region == "ID":
        return {
            "buyer_service_fee": 1000,
            "handling_fee": 1250,
            "shipping_insurance_fee": 600,
            "distance_fee": 0,
            "distance_shipping_fee": 0,
        }
    if market.region == "TH":
        return {"small_order_fee": 500 if subtotal < 10_000 else 0}
    return {}


def share_fees(lines: Sequence[Json], fees: dict[str, int], *, market: Market) -> None:
    """The first line item carries the fees that the API repeats per line."""
    for name in (
        "retail_delivery_fee",
        "buyer_service_fee",
        "small_order_fee",
        "distance_fee",
        "distance_shipping_fee",
    ):
        if fees.get(name) is not None:
            lines[0][name] = market.money(fees[name])


def add_market_fields(order: Json, market: Market, *, rng: random.Random) -> None:
    """The order has the times and marks that only its market sends."""
    rand, created = rng.random, order["create_time"]
    if market.is_sea:
        order |= {
            "fulfillment_priority_level": 100 * (1 + int(rand() * 8)),
            "pick_up_cut_off_time": created + _DAY_S,
            "recommended_shipping_time": created + _DAY_S // 2,
        }
        if rand() < 0.05:
            order |= {
                "order_rights": [1],
                "fast_rts_sla_time": created + _DAY_S,
                "fast_collection_sla_time": created + 2 * _DAY_S,
                "instore_pickup_sla_time": created + 3 * _DAY_S,
            }
    if market.region == "ID":
        order["commerce_platform"] = "TOKOPEDIA" if rand() < 0.3 else "TIKTOK_SHOP"
        if order["commerce_platform"] == "TOKOPEDIA" and rand() < 0.3:
            order["fulfillment_type"] = "FULFILLMENT_BY_DILAYANI_TOKOPEDIA"
    elif market.region in ("US", "GB"):
        order["is_exchange_order"] = False
        if market.region == "US" and rand() < 0.3:
            order["fast_delivery_program"] = "3_DAY_DELIVERY"
    elif market.region == "TH":
        order["fast_dispatch_sla_time"] = created + _DAY_S
    elif market.region == "BR":
        order |= {
            "cpf": f"***.{int(rand() * 1000):03d}.***-**",
            "cpf_name": "***",
            "need_upload_invoice": "NO_NEED",
        }


@dataclass(frozen=True, slots=True)
class _Surroundings:
    lines: LineMaker
    earlier: Sequence[int]
    rng: random.Random


def add_rarity(order: Json, lines: LineMaker, *, earlier: Sequence[int], rng: random.Random) -> None:
    """The order is of one of the rarer kinds, as far as its market and the earlier orders allow."""
    rng.choice(_RARITIES)(order, _Surroundings(lines, earlier, rng))


def _note(order: Json, around: _Surroundings) -> None:
    order["seller_note"] = around.rng.choice(_NOTES)


def _replace(order: Json, around: _Surroundings) -> None:
    if around.earlier:
        order |= {"is_replacement_order": True, "replaced_order_id": str(around.earlier[-1])}


def _exchange(order: Json, around: _Surroundings) -> None:
    if "is_exchange_order" in order and around.earlier:
        order |= {"is_exchange_order": True, "exchange_source_order_id": str(around.earlier[0])}


def _order_ahead(order: Json, around: _Surroundings) -> None:
    order |= {
        "order_type": "PRE_ORDER",
        "release_date": order["create_time"] + 14 * _DAY_S,
        "handling_duration": {"days": "7", "type": "BUSINESS_DAY"},
    }
    for line in order["line_items"]:
        line |= {"handling_duration_days": "7", "sku_type": "PRE_ORDER"}


def _add_gift(order: Json, around: _Surroundings) -> None:
    gift = around.lines.draw(is_free=True).record
    worth = gift["original_price"]
    gift |= {"is_gift": True, "gift_retail_price": worth, "original_price": "0", "seller_discount": "0"}
    order["line_items"].append(gift)


def _combine(order: Json, around: _Surroundings) -> None:
    group = str(around.rng.randrange(10**7, 10**8))
    order |= {"auto_combine_group_id": group, "split_or_combine_tag": "COMBINED"}


def _bundle(order: Json, around: _Surroundings) -> None:
    around.lines.bundle(order["line_items"][0], order["warehouse_id"])


def _subscribe(order: Json, around: _Surroundings) -> None:
    order |= {"is_subscription_order": True, "is_refundable_sample": False, "order_type": ""}


def _customize(order: Json, around: _Surroundings) -> None:
    order["line_items"][0] |= {
        "is_pod_customized": True,
        "pod_info_id": str(around.rng.randrange(10**11, 10**12)),
        "product_listing_type": "TEMPORARY_LISTING",
    }


def _promote(order: Json, around: _Surroundings) -> None:
    order["payment"] |= {"payment_discount_service_fee": "0", "payment_platform_discount": "0"}


def _unbox(order: Json, around: _Surroundings) -> None:
    if around.lines.market.region == "US":
        code = str(around.rng.randrange(10**7, 10**8))
        order["line_items"][0] |= {
            "is_unboxing_item": True,
            "unboxing_case_list": [{"unbox_sku": code, "unbox_sku_type": "NORMAL"}],
            "unboxing_sku_code": code,
        }


def _fuss(order: Json, around: _Surroundings) -> None:
    order |= {
        "authentication_required": True,
        "consultation_id": "",
        "delivery_option_required_delivery_time": order["create_time"] + 6 * _DAY_S,
        "order_type": "NORMAL",
    }


_RARITIES: tuple[Callable[[Json, _Surroundings], None], ...] = (
    _note, _replace, _exchange, _order_ahead, _add_gift, _combine, _bundle, _subscribe, _customize, _promote,
    _unbox, _fuss,
)  # fmt: skip
