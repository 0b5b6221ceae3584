"""The long form of a product, as Get Product answers it."""

from __future__ import annotations

from sync.simulator.products import Json, Product, Sku


def _image(url: str) -> Json:
    return {
        "height": 800,
        "thumb_urls": [url.replace("800:800", "200:200")],
        "uri": url.split(".example/")[-1].split("~")[0],
        "urls": [url],
        "width": 800,
    }


def _sku_detail(sku: Sku, record: Json, product: Product) -> Json:
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
        "identifier_code": {"code": f"{sku.id % 10**13:013d}", "type": "EAN"},
        "sales_attributes": attributes,
        "sku_weight": {"unit": "KILOGRAM", "value": "0.35"},
    }
    if product.market.is_eu:
        detail |= {"extra_identifier_codes": [f"{sku.id % 10**14:014d}"], "sku_unit_count": "1.00"}
    return record | detail


def compose_detail(product: Product) -> Json:
    """The product as Get Product sends it: the search record plus texts, images, attributes, packaging."""
    record = product.search_record()
    records = record["skus"]
    assert isinstance(records, list)
    region = product.market.region
    record |= {
        "brand": {"id": "7082427311584347905", "name": product.title.split(" ")[0]},
        "category_chains": [
            {
                "id": product.good.category_id[:3] + "000",
                "is_leaf": False,
                "local_name": "All",
                "parent_id": "0",
            },
            {
                "id": product.good.category_id,
                "is_leaf": True,
                "local_name": product.good.category,
                "parent_id": product.good.category_id[:3] + "000",
            },
        ],
        "description": f"<p>{product.title}</p>\n<ul>\n  <li>Please compare sizes first.</li>\n</ul>",
        "external_product_id": "",
        "is_cod_allowed": product.market.cod_share > 0,
        "is_pre_owned": False,
        "is_replicated": False,
        "main_images": [_image(product.image)],
        "package_dimensions": {"height": "6", "length": "28", "unit": "CENTIMETER", "width": "20"},
        "package_weight": {"unit": "KILOGRAM", "value": "0.40"},
        "product_attributes": [
            {"id": "100392", "name": "Occasion", "values": [{"id": "1001533", "name": "Daily"}]}
        ],
        "product_status": product.status if product.status in ("ACTIVATE", "DRAFT") else "SELLER_DEACTIVATED",
        "shipping_insurance_requirement": "NOT_SUPPORTED",
        "skus": [_sku_detail(sku, part, product) for sku, part in zip(product.skus, records, strict=True)],
    }
    if product.market.is_eu:
        record |= {
            "manufacturer_ids": ["172959296971220002"],
            "responsible_person_ids": ["172959296971220003"],
        }
    if region == "ID":
        record["minimum_order_quantity"] = 1
    return record
