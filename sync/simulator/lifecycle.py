"""How an order moves from state to state, and which of its fields each move writes."""

from __future__ import annotations

import random
from typing import Protocol

from sync.simulator.products import Json, encode_sorted
from sync.simulator.rows import Row
from sync.simulator.shops import Shop

OPEN_STATES = frozenset(
    {
        "UNPAID",
        "ON_HOLD",
        "AWAITING_SHIPMENT",
        "PARTIALLY_SHIPPING",
        "AWAITING_COLLECTION",
        "IN_TRANSIT",
        "DELIVERED",
    }
)
CANCELLABLE_STATES = frozenset({"UNPAID", "ON_HOLD", "AWAITING_SHIPMENT", "AWAITING_COLLECTION"})
# Units count as reserved until the parcel has left.
RESERVING_STATES = CANCELLABLE_STATES | {"PARTIALLY_SHIPPING"}
_DAY_S = 86_400
_CANCELS = (
    ("BUYER", "Ordered by mistake"),
    ("BUYER", "Found a better price"),
    ("SELLER", "Out of stock"),
    ("SYSTEM", "Payment overdue"),
    ("SYSTEM", "Package delivery failed"),
)


def cancel(order: Json, at: int, *, rng: random.Random) -> None:
    """The order is CANCELLED, with who, why and when; the buyer's own cancellations were asked for first."""
    user, reason = ("SYSTEM", "Payment overdue") if order["status"] == "UNPAID" else rng.choice(_CANCELS)
    order |= {"cancel_reason": reason, "cancel_time": at, "cancellation_initiator": user}
    if user == "BUYER":
        order |= {"is_buyer_request_cancel": True, "request_cancel_time": at - 1}
    for line in order["line_items"]:
        write_line(line, {"cancel_reason": reason, "cancel_user": user, "package_status": "CANCELLED"})
    _enter(order, "CANCELLED", at=at)


def advance(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    """The order is in its next state, entered at ``at``; a final state stays as it is."""
    step = _STEPS.get(order["status"])
    if step is not None:
        step(order, at, shop=shop, rng=rng)


def row_of(order: Json) -> Row:
    """The order's present state as a searchable row."""
    return Row(
        id=int(order["id"]),
        body=encode_sorted(order),
        status=order["status"],
        create_time=order["create_time"],
        update_time=order["update_time"],
        warehouse_id=order["warehouse_id"],
        shipping_type=order["shipping_type"],
        buyer_id=order["user_id"],
        wants_cancel=order["is_buyer_request_cancel"],
    )


def _enter(order: Json, status: str, *, at: int, line_status: str | None = None) -> None:
    order["status"] = status
    order["update_time"] = at
    for line in order["line_items"]:
        write_line(line, {"display_status": line_status or status})


def write_line(line: Json, fields: Json) -> None:
    """The fields are set in the line and in the members of its bundle."""
    line |= fields
    for member in line.get("sub_item_info", ()):
        member |= fields


def _pay(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    if not order["is_cod"]:
        order["paid_time"] = at
    if rng.random() < 0.15:
        _show_address(order, shop)
        _enter(order, "AWAITING_SHIPMENT", at=at)
    else:
        order["is_on_hold_order"] = True
        _enter(order, "ON_HOLD", at=at, line_status="UNPAID")


def _release(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    order |= {"is_on_hold_order": False, "shipping_due_time": at + 3 * _DAY_S}
    _show_address(order, shop)
    _enter(order, "AWAITING_SHIPMENT", at=at)


def _show_address(order: Json, shop: Shop) -> None:
    buyer = shop.buyer_by_id[order["user_id"]]
    order["recipient_address"] = buyer.clear if order["shipping_type"] == "SELLER" else buyer.masked


def _ship(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    lines = order["line_items"]
    if len(lines) > 1 and order["status"] == "AWAITING_SHIPMENT" and rng.random() < 0.4:
        _pack(order, lines[:1], at=at, part=1)
        order["split_or_combine_tag"] = "SPLIT"
        _enter(order, "PARTIALLY_SHIPPING", at=at, line_status="AWAITING_SHIPMENT")
        write_line(lines[0], {"display_status": "AWAITING_COLLECTION"})
        return
    rest = [line for line in lines if not line["package_id"]]
    _pack(order, rest, at=at, part=2)
    order |= {"rts_time": at, "collection_due_time": at + 2 * _DAY_S}
    _enter(order, "AWAITING_COLLECTION", at=at)


def _pack(order: Json, lines: list[Json], *, at: int, part: int) -> None:
    package_id = str(1152321127278700000 + (int(order["id"]) % 10**13) * 2 + part)
    tracking = f"SIM{int(order['id']) % 10**10:010d}{part}"
    order["packages"].append({"id": package_id})
    order["tracking_number"] = tracking
    fields = {
        "package_id": package_id,
        "package_status": "PROCESSING",
        "rts_time": at,
        "shipping_provider_id": order["shipping_provider_id"],
        "shipping_provider_name": order["shipping_provider"],
        "tracking_number": tracking,
    }
    for line in lines:
        write_line(line, fields)


def _collect(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    order |= {
        "collection_time": at,
        "delivery_due_time": at + 21 * _DAY_S,
        "delivery_sla_time": at + 6 * _DAY_S,
    }
    for line in order["line_items"]:
        write_line(line, {"package_status": "FULFILLING"})
    _enter(order, "IN_TRANSIT", at=at)


def _deliver(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    order["delivery_time"] = at
    if order["is_cod"]:
        order["paid_time"] = at
    for line in order["line_items"]:
        write_line(line, {"package_status": "COMPLETED"})
    _enter(order, "DELIVERED", at=at)


def _complete(order: Json, at: int, *, shop: Shop, rng: random.Random) -> None:
    if shop.market.region == "US":
        # A late read gives less than an early one, as the platform's privacy rules make it.
        order["recipient_address"] = shop.buyer_by_id[order["user_id"]].hidden
    _enter(order, "COMPLETED", at=at)


class _Step(Protocol):
    def __call__(self, order: Json, at: int, /, *, shop: Shop, rng: random.Random) -> None: ...


_STEPS: dict[str, _Step] = {
    "UNPAID": _pay,
    "ON_HOLD": _release,
    "AWAITING_SHIPMENT": _ship,
    "PARTIALLY_SHIPPING": _ship,
    "AWAITING_COLLECTION": _collect,
    "IN_TRANSIT": _deliver,
    "DELIVERED": _complete,
}
_PAUSES_S: dict[str, tuple[int, int]] = {
    "UNPAID": (20, 900),
    "ON_HOLD": (3600, 3700),
    "AWAITING_SHIPMENT": (2 * 3600, 36 * 3600),
    "PARTIALLY_SHIPPING": (6 * 3600, 3 * _DAY_S),
    "AWAITING_COLLECTION": (2 * 3600, 30 * 3600),
    "IN_TRANSIT": (20 * 3600, 6 * _DAY_S),
    "DELIVERED": (2 * _DAY_S, 5 * _DAY_S),
}


def live_until(order: Json, now: int, *, shop: Shop, rng: random.Random) -> None:
    """The order has gone through every state that its age allows; about one in sixteen was cancelled."""
    rand = rng.random
    doomed = rand() < 0.06
    at: int = order["create_time"]
    while (pause := _PAUSES_S.get(order["status"])) is not None:
        at += pause[0] + int(rand() * (pause[1] - pause[0]))
        if at > now:
            return
        if doomed and order["status"] in CANCELLABLE_STATES and rand() < 0.5:
            cancel(order, at, rng=rng)
        else:
            advance(order, at, shop=shop, rng=rng)
