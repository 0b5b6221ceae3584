"""The long form of a product, as Get Product answers it."""

from __future__ import annotations

from sync.simulator.products import Json, Product, Sku

_ONLY_IN_SEARCH = ("product_sync_fail_reasons", "sales_regions")


def compose_detail(product: Product) -> Json:
    """The product as Get Product sends it: the search record plus texts, images, attributes, packaging.

    Print-on-demand templates, combined SKUs and subscriptions are not simulated.
    """
    record = product.search_record()
    records = record.pop("skus")
    for name in _ONLY_IN_SEARCH:
        record.pop(name, None)
    record |= _texts(product) | _logistics(product) | _market_fields(product)
    record["skus"] = [
        _sku_detail(sku, part, product=product) for sku, part in zip(product.skus, records, strict=True)
    ]
    if product.audit == "FAILED":
        record["audit_failed_reasons"] = [
            {
                "listing_platform": "TIKTOK_SHOP",
                "position": "main_images",
                "reasons": ["The main image shows a watermark."],
                "suggestions": ["Upload the image again without it."],
            }
        ]
    return record


def _texts(product: Product) -> Json:
    category, root = product.good.category_id, product.good.category_id[:3] + "000"
    return {
        "brand": {"id": "7082427311584347905", "name": product.title.split(" ")[0]},
        "category_chains": [
            {"id": root, "is_leaf": False, "local_name": "All", "parent_id": "0"},
            {"id": category, "is_leaf": True, "local_name": product.good.category, "parent_id": root},
        ],
        "certifications": [],
        "description": f"<p>{product.title}</p>\n<ul>\n  <li>Please compare sizes first.</li>\n</ul>",
        "external_product_id": "",
        "is_blind_box": False,
        "is_pre_owned": False,
        "is_replicated": False,
        "key_product_features": ["Ready to ship", product.good.noun],
        "main_images": [_image(product.image)],
        "product_attributes": [
            {"id": "100392", "name": "Occasion", "values": [{"id": "1001533", "name": "Daily"}]}
        ],
        "product_status": product.status if product.status in ("ACTIVATE", "DRAFT") else "SELLER_DEACTIVATED",
        "search_terms": product.good.noun.lower().split(),
    }


def _logistics(product: Product) -> Json:
    return {
        "delivery_options": [
            {"id": "7091146663229654785", "is_available": True, "name": "Standard Shipping"}
        ],
        "is_cod_allowed": product.market.cod_share > 0,
        "package_dimensions": {"height": "6", "length": "28", "unit": "CENTIMETER", "width": "20"},
        "package_weight": {"unit": "KILOGRAM", "value": "0.40"},
        "prescription_requirement": {"needs_prescription": False},
        "shipping_insurance_requirement": "NOT_SUPPORTED",
        "shipping_template_id": "",
    }


def _market_fields(product: Product) -> Json:
    fields: Json = {}
    if product.market.is_eu:
        fields |= {
            "manufacturer_ids": ["172959296971220002"],
            "product_types": [],
            "responsible_person_ids": ["172959296971220003"],
        }
    if product.market.region == "ID":
        fields["minimum_order_quantity"] = 1
    return fields


def _image(url: str) -> Json:
    return {
        "height": 800,
        "thumb_urls": [url.replace("800:800", "200:200")],
        "uri": url.split(".example/")[-1].split("~")[0],
        "urls": [url],
        "width": 800,
    }


def _sku_detail(sku: Sku, record: Json, *, product: Product) -> Json:
    attributes = [
        {
            "id": str(100000 + place),
            "name": name,
            "sku_img": _image(product.image),
            "value_id": str(1001064 + sku.id % 977 + place),
            "value_name": value,
        }
        for place, (name, value) in enumerate(sku.variant)
    ]
    detail: Json = {
        "external_sku_id": "",
        "external_urls": [],
        "global_listing_policy": {"inventory_type": "EXCLUSIVE", "price_sync": False},
        "identifier_code": {"code": f"{sku.id % 10**13:013d}", "type": "EAN"},
        "sales_attributes": attributes,
        "sku_dimensions": {"height": "6", "length": "28", "unit": "CENTIMETER", "width": "20"},
        "sku_weight": {"unit": "KILOGRAM", "value": "0.35"},
    }
    if product.market.is_eu:
        detail |= {"extra_identifier_codes": [f"{sku.id % 10**14:014d}"], "sku_unit_count": "1.00"}
        record["price"]["unit_price"] = product.market.money(sku.price)
    return record | detail
