"""Search Products, Get Product, Inventory Search, and the short lists of shops and warehouses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from sync.simulator.calls import Call, canonical
from sync.simulator.options import SimulatorOptions
from sync.simulator.order_calls import Seconds
from sync.simulator.product_detail import compose_detail
from sync.simulator.products import Product, encode_sorted
from sync.simulator.replies import RefusedError
from sync.simulator.rows import Row
from sync.simulator.searches import Bounds, Desk, Filter, Page, select
from sync.simulator.shops import Shop

_MOST_PRODUCT_IDS, _MOST_SKU_IDS = 100, 600
_UNREADABLE = ("DELETED", "FREEZE")
_PARAMS = RefusedError(12052910, "invalid params")
_REFUSALS = {
    "seller_skus": RefusedError(12019027, "The number of seller_skus can not exceed 10."),
    "sku_ids": RefusedError(12019087, "The number of sku_ids can not exceed 10."),
    "create_time_ge": RefusedError(12019118, "create time is invalid"),
    "create_time_le": RefusedError(12019118, "create time is invalid"),
    "update_time_ge": RefusedError(12019119, "update time is invalid"),
    "update_time_le": RefusedError(12019119, "update time is invalid"),
    "": _PARAMS,
}
_Few = Annotated[list[str], msgspec.Meta(max_length=10)] | msgspec.UnsetType


class ProductFilter(msgspec.Struct, omit_defaults=True):
    """The documented body of Search Products, as far as it chooses rows."""

    status: Literal[
        "ALL",
        "DRAFT",
        "PENDING",
        "FAILED",
        "ACTIVATE",
        "SELLER_DEACTIVATED",
        "PLATFORM_DEACTIVATED",
        "FREEZE",
        "DELETED",
    ] = "ALL"
    seller_skus: _Few = msgspec.UNSET
    sku_ids: _Few = msgspec.UNSET
    create_time_ge: Seconds = msgspec.UNSET
    create_time_le: Seconds = msgspec.UNSET
    update_time_ge: Seconds = msgspec.UNSET
    update_time_le: Seconds = msgspec.UNSET
    audit_status: list[Literal["AUDITING", "FAILED", "APPROVED"]] | msgspec.UnsetType = msgspec.UNSET
    listing_quality_tiers: list[str] | msgspec.UnsetType = msgspec.UNSET
    listing_platforms: list[Literal["TIKTOK_SHOP", "TOKOPEDIA"]] | msgspec.UnsetType = msgspec.UNSET
    category_version: Literal["v1", "v2"] = "v1"
    return_draft_version: bool = False


def search_products(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202502 Search Products: newest change first, though no order is promised."""
    wrong_size = RefusedError(12019109, "page size is invalid")
    size = call.page_size(refusal=wrong_size, clamp=desk.options.page_size_mode == "clamp")
    wanted = call.read_body(ProductFilter, _REFUSALS)
    if wanted.listing_platforms is not msgspec.UNSET and wanted.status == "ALL":
        raise _PARAMS
    shop = call.of_shop
    found = select(
        shop.product_rows,
        Filter(
            sort="update_time",
            descending=True,
            create=_closed(wanted.create_time_ge, wanted.create_time_le, refusal=_REFUSALS["create_time_ge"]),
            update=_closed(wanted.update_time_ge, wanted.update_time_le, refusal=_REFUSALS["update_time_ge"]),
            keep=_condition(wanted, shop, options=desk.options),
        ),
    )
    if found.total > desk.options.product_cap:
        raise RefusedError(
            12052180, f"The total number of search results can not exceed {desk.options.product_cap}."
        )
    return desk.pager.cut(
        found,
        key="products",
        size=size,
        token=call.query.get("page_token", ""),
        search=f"{shop.shop_id} {canonical(wanted)}",
        options=desk.options,
        now=call.now,
    )


def _closed(ge: int | msgspec.UnsetType, le: int | msgspec.UnsetType, *, refusal: RefusedError) -> Bounds:
    """Both ends included, unlike the orders' times, as half-open bounds of whole seconds."""
    low = None if ge is msgspec.UNSET else ge
    high = None if le is msgspec.UNSET else le + 1
    if low is not None and high is not None and low >= high:
        raise refusal
    return low, high


def _condition(
    wanted: ProductFilter, shop: Shop, *, options: SimulatorOptions
) -> Callable[[Row], bool] | None:
    tests: list[Callable[[Row], bool]] = []
    status = "DRAFT" if wanted.return_draft_version else wanted.status
    if status != "ALL":
        tests.append(lambda row: row.status == status)
    elif not options.all_includes_deleted and shop.product_rows.shown_by_status["DELETED"]:
        tests.append(lambda row: row.status != "DELETED")
    if wanted.sku_ids is not msgspec.UNSET:
        sku_ids = {int(text) for text in wanted.sku_ids if text.isdecimal()}
        owners = {shop.product_of_sku.get(sku_id) for sku_id in sku_ids}
        tests.append(lambda row: row.id in owners)
    if wanted.seller_skus is not msgspec.UNSET:
        codes = frozenset(wanted.seller_skus)
        tests.append(lambda row: any(sku.seller_sku in codes for sku in shop.products[row.id].skus))
    if wanted.audit_status is not msgspec.UNSET:
        audits = frozenset(wanted.audit_status)
        tests.append(lambda row: shop.products[row.id].audit in audits)
    if wanted.listing_quality_tiers is not msgspec.UNSET:
        tiers = frozenset(wanted.listing_quality_tiers)
        tests.append(lambda row: shop.products[row.id].extras.get("listing_quality_tier") in tiers)
    if not tests:
        return None
    return lambda row: all(test(row) for test in tests)


def get_product(call: Call, desk: Desk) -> bytes:
    """TikTok Shop 202309 Get Product; frozen and deleted products are refused."""
    if call.query.get("return_under_review_version") == call.query.get("return_draft_version") == "true":
        raise _PARAMS
    product = call.of_shop.products.get(int(call.path_id)) if call.path_id.isdecimal() else None
    if product is None:
        raise RefusedError(12019150, "product not found")
    if product.status in _UNREADABLE:
        raise RefusedError(12052901, "The product status is not available.")
    if call.query.get("return_under_review_version") == "true" and product.audit != "AUDITING":
        raise RefusedError(12052547, "The product has no version under review.")
    return encode_sorted(compose_detail(product))


class InventoryFilter(msgspec.Struct):
    """The documented body of Inventory Search."""

    product_ids: list[str] = msgspec.field(default_factory=list)
    sku_ids: list[str] = msgspec.field(default_factory=list)


def search_inventory(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202309 Inventory Search: one unpaged list; SKU ids win over product ids."""
    wanted = call.read_body(InventoryFilter, {"product_ids": RefusedError(12019008, "product id is invalid")})
    shop = call.of_shop
    if len(wanted.sku_ids) > _MOST_SKU_IDS:
        raise RefusedError(12019015, f"The number of SKUs can not exceed {_MOST_SKU_IDS}.")
    if len(wanted.product_ids) > _MOST_PRODUCT_IDS:
        raise RefusedError(12019120, f"The number of product ids can not exceed {_MOST_PRODUCT_IDS}.")
    if not wanted.sku_ids and not wanted.product_ids:
        raise RefusedError(12019008, "product id is invalid")
    if wanted.sku_ids:
        return Page("inventory", _inventory_of_skus(shop, wanted.sku_ids))
    products = (
        shop.products.get(int(text)) for text in dict.fromkeys(wanted.product_ids) if text.isdecimal()
    )
    return Page(
        "inventory",
        [encode_inventory(product) for product in products if product and product.status != "DELETED"],
    )


def _inventory_of_skus(shop: Shop, texts: list[str]) -> list[bytes]:
    sku_ids = frozenset(int(text) for text in texts if text.isdecimal())
    owners = dict.fromkeys(shop.product_of_sku[sku_id] for sku_id in sku_ids if sku_id in shop.product_of_sku)
    products = [shop.products[owner] for owner in owners]
    return [encode_sorted(one.inventory_record(sku_ids)) for one in products if one.status != "DELETED"]


def encode_inventory(product: Product) -> bytes:
    """The product's whole inventory record; kept until its stock or its SKUs change."""
    if product.inventory_body is None:
        product.inventory_body = encode_sorted(product.inventory_record())
    return product.inventory_body


def list_warehouses(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202309 Get Warehouse List."""
    return Page("warehouses", [warehouse.body for warehouse in call.of_shop.warehouses])
