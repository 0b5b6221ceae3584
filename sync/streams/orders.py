"""Orders with their line items. TikTok Shop 202309 Get Order List and 202507 Get Order Detail."""

from __future__ import annotations

from sync.model import Window, epoch
from sync.streams.base import Body, Census, Lookup, Stream, TimeWindows


def _body(window: Window) -> Body:
    return {"update_time_ge": epoch(window.since), "update_time_lt": epoch(window.until)}


def _created(window: Window) -> Body:
    return {"create_time_ge": epoch(window.since), "create_time_lt": epoch(window.until)}


ORDERS = Stream(
    name="orders",
    method="POST",
    path="/order/202309/orders/search",
    records="orders",
    key="id",
    scope="seller.order.info",
    statement="store_orders",
    page_size=100,
    # Ascending: what changes while a walk is under way moves behind its end, not into its way.
    query={"sort_field": "update_time", "sort_order": "ASC"},
    slicing=TimeWindows(bodies=(_body,), is_ordered=True),
    # Order status, recipient address, packages, cancellations, returns.
    webhooks=frozenset({1, 3, 4, 11, 12}),
    named_by="order_id",
    lookup=Lookup(
        method="GET",
        path="/order/202507/orders",
        size=50,
        query=lambda ids: {"ids": ",".join(ids)},
        without=frozenset(
            {
                "channel_entity_national_registry_id",
                "payment_auth_code",
                "payment_card_type",
                "payment_method_code",
            }
        ),
    ),
    censuses=(Census("orders", _created, query={"sort_field": "create_time", "sort_order": "ASC"}),),
)
