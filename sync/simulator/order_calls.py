"""Get Order List and Get Order Detail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from sync.simulator.calls import Call, canonical
from sync.simulator.products import encode_sorted
from sync.simulator.replies import RefusedError, invalid
from sync.simulator.rows import Row
from sync.simulator.searches import Bounds, Desk, Filter, Page, select

_MOST_DETAIL_IDS = 50
_CARDS = {"Credit card": ("VISA", "CCDC"), "PayPal": ("", "PAYPAL"), "Cash on delivery": ("", "COD")}

Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**62)] | msgspec.UnsetType
OrderStatus = Literal[
    "UNPAID",
    "ON_HOLD",
    "AWAITING_SHIPMENT",
    "PARTIALLY_SHIPPING",
    "AWAITING_COLLECTION",
    "IN_TRANSIT",
    "DELIVERED",
    "COMPLETED",
    "CANCELLED",
]


class OrderFilter(msgspec.Struct, omit_defaults=True):
    """The documented body of Get Order List."""

    order_status: OrderStatus | msgspec.UnsetType = msgspec.UNSET
    create_time_ge: Seconds = msgspec.UNSET
    create_time_lt: Seconds = msgspec.UNSET
    update_time_ge: Seconds = msgspec.UNSET
    update_time_lt: Seconds = msgspec.UNSET
    shipping_type: Literal["TIKTOK", "SELLER", "TIKTOK_DIGITAL", "IN-STORE PICKUP"] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    buyer_user_id: str | msgspec.UnsetType = msgspec.UNSET
    is_buyer_request_cancel: bool | msgspec.UnsetType = msgspec.UNSET
    warehouse_ids: Annotated[list[str], msgspec.Meta(max_length=100)] | msgspec.UnsetType = msgspec.UNSET


def search_orders(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202309 Get Order List."""
    size = call.page_size(
        refusal=invalid("page_size", "must be 1 to 100"), clamp=desk.options.page_size_mode == "clamp"
    )
    sort = call.choice("sort_field", "create_time", allowed=("create_time", "update_time"))
    order = call.choice("sort_order", "DESC", allowed=("ASC", "DESC"))
    wanted = call.read_body(OrderFilter)
    shop = call.of_shop
    found = select(
        shop.orders,
        Filter(
            sort="update_time" if sort == "update_time" else "create_time",
            descending=order == "DESC",
            create=_bounds("create_time", wanted.create_time_ge, lt=wanted.create_time_lt, now=call.now),
            update=_bounds("update_time", wanted.update_time_ge, lt=wanted.update_time_lt, now=call.now),
            keep=_condition(wanted),
        ),
    )
    return desk.pager.cut(
        found,
        key="orders",
        size=size,
        token=call.query.get("page_token", ""),
        search=f"{shop.shop_id} {sort} {order} {canonical(wanted)}",
        options=desk.options,
        now=call.now,
    )


def _bounds(name: str, ge: int | msgspec.UnsetType, *, lt: int | msgspec.UnsetType, now: float) -> Bounds:
    if ge is msgspec.UNSET and lt is msgspec.UNSET:
        return None, None
    low = None if ge is msgspec.UNSET else ge
    # A missing end means now, and the end is excluded: what happens in this very second is not in it yet.
    high = int(now) if lt is msgspec.UNSET else lt
    if low is not None and lt is not msgspec.UNSET and low > high:
        raise invalid(name, "invalid date range")
    return low, high


def _condition(wanted: OrderFilter) -> Callable[[Row], bool] | None:
    tests: list[Callable[[Row], bool]] = []
    if wanted.order_status is not msgspec.UNSET:
        tests.append(lambda row: row.status == wanted.order_status)
    if wanted.shipping_type is not msgspec.UNSET:
        tests.append(lambda row: row.shipping_type == wanted.shipping_type)
    if wanted.buyer_user_id is not msgspec.UNSET:
        tests.append(lambda row: row.buyer_id == wanted.buyer_user_id)
    if wanted.is_buyer_request_cancel is not msgspec.UNSET:
        tests.append(lambda row: row.wants_cancel == wanted.is_buyer_request_cancel)
    if wanted.warehouse_ids is not msgspec.UNSET and wanted.warehouse_ids:
        warehouses = frozenset(wanted.warehouse_ids)
        tests.append(lambda row: row.warehouse_id in warehouses)
    if not tests:
        return None
    return lambda row: all(test(row) for test in tests)


def get_orders(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202507 Get Order Detail; ids that are not this shop's are left out, or refuse the call."""
    ids = [part for part in call.query.get("ids", "").split(",") if part]
    if not ids:
        raise invalid("ids", "is required")
    if len(ids) > _MOST_DETAIL_IDS:
        raise invalid("ids", f"at most {_MOST_DETAIL_IDS}")
    if not all(part.isdecimal() for part in ids):
        raise invalid("ids", "must be order ids")
    found = [call.of_shop.orders.shown.get(int(part)) for part in dict.fromkeys(ids)]
    rows = [row for row in found if row is not None]
    if len(rows) < len(found) and desk.options.unknown_detail_ids == "refuse":
        raise RefusedError(21008111, "The order does not belong to this seller.")
    return Page("orders", [_detail(row.body, call.of_shop.market.region) for row in rows])


def _detail(body: bytes, region: str) -> bytes:
    order = msgspec.json.decode(body)
    card, method = _CARDS.get(order["payment_method_name"], ("", "OTHER"))
    order |= {"payment_card_type": card, "payment_method_code": method}
    if region == "BR":
        order |= {
            "channel_entity_national_registry_id": "12345678000190",
            "payment_auth_code": "A" + order["id"][-5:],
        }
    return encode_sorted(order)
