"""Products with their SKUs. TikTok Shop 202502 Search Products."""

from __future__ import annotations

from sync.model import Window, epoch
from sync.streams.base import Body, Census, Stream, TimeWindows


def _times(window: Window) -> Body:
    # `_le` includes its bound, so the last second is named.
    return {"update_time_ge": epoch(window.since), "update_time_le": epoch(window.until) - 1}


def _all(window: Window) -> Body:
    return {"status": "ALL", **_times(window)}


def _deleted(window: Window) -> Body:
    return {"status": "DELETED", **_times(window)}


def _created(window: Window) -> Body:
    return {"create_time_ge": epoch(window.since), "create_time_le": epoch(window.until) - 1}


def _all_created(window: Window) -> Body:
    return {"status": "ALL", **_created(window)}


def _deleted_created(window: Window) -> Body:
    return {"status": "DELETED", **_created(window)}


PRODUCTS = Stream(
    name="products",
    method="POST",
    path="/product/202502/products/search",
    records="products",
    key="id",
    scope="seller.product.basic",
    statement="store_products",
    page_size=100,
    # Nobody documents whether ALL includes DELETED: asking for both is right either way.
    slicing=TimeWindows(bodies=(_all, _deleted)),
    # Product status, information, creation, category and audit; status of SKUs. Get Product is no
    # look-up for them: it shows a product in another shape, and no deleted one.
    webhooks=frozenset({5, 15, 16, 18, 37, 50}),
    named_by="product_id",
    censuses=(
        Census("live_products", _all_created, alias="all_products", largest_part=8_000),
        Census("deleted_products", _deleted_created),
    ),
)
