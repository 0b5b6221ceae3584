"""Stock of every SKU in every warehouse. TikTok Shop 202309 Inventory Search."""

from __future__ import annotations

from sync.streams.base import ParentKeys, Stream

INVENTORY = Stream(
    name="inventory",
    method="POST",
    path="/product/202309/inventory/search",
    records="inventory",
    key="product_id",
    scope="seller.product.basic",
    statement="store_inventory",
    slicing=ParentKeys(
        keys="product_ids",
        size=100,
        after="products",
        body=lambda keys: {"product_ids": list(keys)},
    ),
)
