"""Line items of a fresh order: one unit each, with what it cost."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from sync.simulator.identifiers import Identifiers
from sync.simulator.markets import Market
from sync.simulator.products import Json, Product, Sku


@dataclass(frozen=True, slots=True)
class Line:
    """A line item's record and its amounts in minor units."""

    record: Json
    original: int
    sale: int
    seller_cut: int
    platform_cut: int


@dataclass(slots=True)
class LineMaker:
    """Draws units from what a shop sells; the part of a line that only its SKU decides is made once."""

    market: Market
    ids: Identifiers
    rng: random.Random
    choices: list[tuple[Product, Sku]] = field(default_factory=list)
    _templates: dict[int, Json] = field(default_factory=dict)

    def offer(self, products: Iterable[Product]) -> None:
        """From now on these products are sold, as far as they are live, at their present prices."""
        self._templates.clear()
        self.choices = [
            (product, sku) for product in products if product.status == "ACTIVATE" for sku in product.skus
        ]

    def draw(self, *, is_free: bool = False) -> Line:
        """One unit of some SKU, the first ones sold more often; a free one is discounted to nothing."""
        rand, market = self.rng.random, self.market
        product, sku = self.choices[int(rand() ** 2 * len(self.choices))]
        template = self._templates.get(sku.id)
        if template is None:
            template = self._templates[sku.id] = self._template(product, sku)
        line = template.copy()
        line["id"] = str(self.ids.take("line_item"))
        if rand() < 0.08:
            line["room_id"] = "7652884452049160991"
        seller_cut = sku.price if is_free else 0 if rand() < 0.6 else sku.price // 10
        platform_cut = 0 if is_free or rand() < 0.75 else sku.price // 20
        sale = sku.price - seller_cut - platform_cut
        if seller_cut or platform_cut:
            line["seller_discount"] = market.money(seller_cut)
            line["platform_discount"] = market.money(platform_cut)
            line["sale_price"] = market.money(sale)
        if market.tax_rate:
            tax = market.money(round(sale * market.tax_rate))
            line["item_tax"] = [{"tax_amount": tax, "tax_rate": "0.0825", "tax_type": "SALES_TAX"}]
        return Line(line, sku.price, sale, seller_cut, platform_cut)

    def bundle(self, line: Json, warehouse_id: str) -> None:
        """The line is a bundle of one other SKU, which is listed inside it and ships from this warehouse."""
        product, sku = self.rng.choice(self.choices)
        line["combined_listing_skus"] = [
            {
                "product_id": str(product.id),
                "seller_sku": sku.seller_sku,
                "sku_count": 1,
                "sku_id": str(sku.id),
            }
        ]
        line["sub_item_info"] = [
            {
                "currency": line["currency"],
                "display_status": "UNPAID",
                "id": str(self.ids.take("line_item")),
                "is_dangerous_good": product.good.is_dangerous,
                "original_price": line["original_price"],
                "platform_discount": line["platform_discount"],
                "product_id": str(product.id),
                "product_name": product.title,
                "sale_price": line["sale_price"],
                "seller_discount": line["seller_discount"],
                "seller_sku": sku.seller_sku,
                "sku_id": str(sku.id),
                "sku_image": product.image,
                "sku_name": sku.name,
                "warehouse_id": warehouse_id,
            }
            | {name: line[name] for name in ("item_tax", "retail_delivery_fee") if name in line}
        ]

    def _template(self, product: Product, sku: Sku) -> Json:
        price = self.market.money(sku.price)
        line: Json = {
            "currency": self.market.currency,
            "display_status": "UNPAID",
            "gift_retail_price": "0",
            "id": "",
            "is_dangerous_good": product.good.is_dangerous,
            "is_gift": False,
            "needs_prescription": False,
            "original_price": price,
            "package_id": "",
            "package_status": "TO_FULFILL",
            "platform_discount": "0",
            "product_id": str(product.id),
            "product_name": product.title,
            "room_id": "",
            "sale_price": price,
            "seller_discount": "0",
            "seller_sku": sku.seller_sku,
            "sku_id": str(sku.id),
            "sku_image": product.image,
            "sku_name": sku.name,
            "sku_type": "NORMAL",
            "tracking_number": "",
        }
        if self.market.is_eu:
            line |= {"shipping_vat_amount": self.market.money(62), "shipping_vat_rate": "0.19"}
            if product.good.is_drink:
                line["pfand_fee"] = "0.25"
        return line
