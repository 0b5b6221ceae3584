"""Stock of every SKU in every warehouse. TikTok Shop 202309 Inventory Search."""

from __future__ import annotations

from sync.streams.base import Body, Lookup, ParentKeys, Stream

_PATH = "/product/202309/inventory/search"
_SIZE = 100


def _body(product_ids: tuple[str, ...]) -> Body:
    return {"product_ids": list(product_ids)}


INVENTORY = Stream(
    name="inventory",
    method="POST",
    path=_PATH,
    records="inventory",
    key="product_id",
    scope="seller.product.basic",
    statement="store_inventory",
    slicing=ParentKeys(
        keys="product_ids",
        size=_SIZE,
        after="products",
        body=_body,
    ),
    # New products, status of SKUs; stock that runs low, stock that somebody changed.
    webhooks=frozenset({16, 27, 50, 71}),
    named_by="product_id",
    lookup=Lookup(method="POST", path=_PATH, size=_SIZE, body=_body),
)
