"""What the platform's notifications say: a number, a name, and ``data`` as the documents show it.

Source: Partner Center "TTS webhooks overview" and the page of each topic. Product ids are JSON integers
in the topics 5, 16, 37 and 71 and text in the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sync.simulator.products import Json, Product, Sku
from sync.simulator.shops import Shop

LOW_STOCK = 10
_STATUS_NAMES = {"CANCELLED": "CANCEL"}
# The topic's own list of states does not have this one; a split is told by topic 4.
_UNTOLD_STATUS = "PARTIALLY_SHIPPING"
_RETURNS_ONE_IN = 8
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: the topic's number and its ``data``."""

    type: int
    data: Json


def order_moved(order: Json) -> list[Notice]:
    """What is told when an order has entered its present status, or was placed."""
    status, at = order["status"], order["update_time"]
    if status == _UNTOLD_STATUS:
        return [packages_changed(order, kind="SPLIT", at=at)]
    told = {
        "order_id": order["id"],
        "order_status": _STATUS_NAMES.get(status, status),
        "is_on_hold_order": order["is_on_hold_order"],
        "update_time": at,
    }
    notices = [Notice(1, told)]
    if status == "CANCELLED":
        notices.append(_cancelled(order, at=at))
    if status == "DELIVERED" and int(order["id"]) % _RETURNS_ONE_IN == 0:
        notices.append(_return_asked(order, at=at))
    return notices


def address_changed(order: Json, *, at: int) -> Notice:
    """The recipient's address is another one."""
    return Notice(3, {"order_id": order["id"], "update_time": at})


def packages_changed(order: Json, *, kind: str, at: int) -> Notice:
    """The order's packages were combined or split; ``kind`` is COMBINE, SPLIT, ..."""
    packages = [{"package_id": one["id"], "order_id_list": [order["id"]]} for one in order["packages"]]
    told = {"sc_type": kind, "role_type": "ROLE_SELLER", "package_list": packages, "update_time": at}
    return Notice(4, told)


def _cancelled(order: Json, *, at: int) -> Notice:
    told = {
        "order_id": order["id"],
        "cancellations_role": order["cancellation_initiator"],
        "cancel_status": "CANCELLATION_REQUEST_COMPLETE",
        "cancel_id": _kin(order["id"], 4035318504086604100),
        "create_time": order.get("request_cancel_time", at),
    }
    return Notice(11, told)


def _return_asked(order: Json, *, at: int) -> Notice:
    told = {
        "order_id": order["id"],
        "return_role": "BUYER",
        "return_type": "RETURN_AND_REFUND",
        "return_status": "RETURN_OR_REFUND_REQUEST_PENDING",
        "return_id": _kin(order["id"], 4035319504086604100),
        "create_time": at,
        "update_time": at,
    }
    return Notice(12, told)


def _kin(order_id: str, base: int) -> str:
    return str(base + int(order_id) % 10**13)


def product_created(product: Product) -> list[Notice]:
    """A listing exists, and its audit has a result."""
    told = {"product_id": product.id, "product_types": [], "update_time": product.update_time}
    return [Notice(16, told), _audited(product)]


def product_switched(product: Product) -> Notice:
    """The listing's status is another one; deleted is a status too."""
    told = {
        "product_id": product.id,
        "status": "PRODUCT_STATUS_CHANGED",
        "suspended_reason": "",
        "update_time": product.update_time,
    }
    return Notice(5, told)


def product_edited(product: Product, *, field: str) -> list[Notice]:
    """Texts or prices are other ones; only of live listings is that told, and of titles the audit too."""
    if product.status != "ACTIVATE":
        return []
    told = {
        "product_id": str(product.id),
        "change_source": "SELLER_CENTER",
        "changed_fields": [field],
        "update_time": product.update_time,
    }
    return [Notice(15, told), *([_audited(product)] if field == "title" else [])]


def _audited(product: Product) -> Notice:
    told: Json = {
        "product_id": product.id,
        "audit": {"status": product.audit},
        "update_time": product.update_time,
    }
    if product.audit == "PRE_APPROVED":
        told["audit"]["pre_approved_reason"] = "KYC_PENDING"
    return Notice(37, told)


def category_changed(product: Product, *, before: str) -> Notice:
    """The listing stands in another category."""
    told = {
        "product_id": str(product.id),
        "previous_category_id": before,
        "current_category_id": product.good.category_id,
        "update_time": product.update_time,
    }
    return Notice(18, told)


def sku_changed(product: Product, sku_id: int, *, status: str) -> Notice:
    """A variant was CREATED, DELETED, ACTIVATED or DEACTIVATED."""
    skus = [{"sku_id": str(sku_id), "status": status}]
    return Notice(50, {"product_id": str(product.id), "skus": skus, "update_time": product.update_time})


def stock_changed(
    shop: Shop, product: Product, sku: Sku, *, available: int, committed: int, cause: str, at: int
) -> list[Notice]:
    """A variant's units are other ones by these differences; a low stock alert when it has just run low."""
    free = sum(stock.available for stock in sku.stock.values())
    bound = sum(stock.committed for stock in sku.stock.values())
    occurred = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    # By the machine's clock: unlike a counter it never repeats an id after a restart.
    event = f"{sku.id}-{time.time_ns()}"
    quantities = {
        "total_quantity": free + bound,
        "total_available_quantity": free,
        "total_committed_quantity": bound,
        "in_shop_quantity": free,
        "campaign_locked_quantity": 0,
        "creator_locked_quantity": 0,
    }
    deltas = {
        "total_quantity_delta": available + committed,
        "available_quantity_delta": available,
        "committed_quantity_delta": committed,
        "in_shop_quantity_delta": available,
        "campaign_locked_quantity_delta": 0,
        "creator_locked_quantity_delta": 0,
    }
    change = {"idempotency_key": f"{event}-1", "trigger_source": cause, "occurred_at": occurred} | deltas
    told = {
        "event_id": event,
        "occurred_at": occurred,
        "shop_id": int(shop.shop_id),
        "product_id": product.id,
        "sku_id": sku.id,
        "quantity_snapshot_after_change": quantities,
        "change_detail": [change],
    }
    notices = [Notice(71, told)]
    if free <= LOW_STOCK < free - available:
        notices.append(_ran_low(product, sku, free=free, bound=bound, at=at))
    return notices


def _ran_low(product: Product, sku: Sku, *, free: int, bound: int, at: int) -> Notice:
    told = {
        "product_id": str(product.id),
        "sku_id": str(sku.id),
        "trigger_reason": {"alert_type": "REALTIME", "low_stock_threshold": LOW_STOCK},
        "current_inventory_status": "LOW_STOCK" if free else "OUT_OF_STOCK",
        "inventory_distribution": {
            "total_quantity": free + bound,
            "available_quantity": free,
            "creator_reserved_quantity": 0,
            "campaign_reserved_quantity": 0,
            "committed_quantity": bound,
        },
        "update_time": at,
    }
    return Notice(27, told)


def consent_withdrawn(shop_id: str) -> Notice:
    """The seller has taken the shop away from the app."""
    return Notice(6, {"message": f"Shop_id {{{shop_id}}} is deauthorized from your APP by merchant."})


def consent_ends(shop_id: str, *, ends_at: int, now: float) -> Notice:
    """The seller's consent ends soon."""
    days = max(int((ends_at - now) // _DAY_S), 0)
    message = (
        f"Authorization of shop_id {{{shop_id}}} is expiring in {{{days}}} days. "
        "Please direct the merchant to re-authorize."
    )
    # A text here, unlike every other time.
    return Notice(7, {"message": message, "expiration_time": str(ends_at)})
