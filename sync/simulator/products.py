"""Products with their SKUs and stock, and the records that the three product calls answer with."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sync.simulator.catalog import Good, compose_title, compose_variants
from sync.simulator.identifiers import Identifiers
from sync.simulator.markets import Market
from sync.simulator.rows import Row

Json = dict[str, Any]
_AUDITS = {"PENDING": ("AUDITING", "AUDITING", "PRE_APPROVED"), "FAILED": ("FAILED",), "DRAFT": ("NONE",)}
_ENCODER = msgspec.json.Encoder(order="sorted")
_BUFFER = bytearray()


def encode_sorted(record: Json) -> bytes:
    """The record as JSON with alphabetical keys, in bytes of exactly its size.

    Encoding into one lasting buffer leaves no oversized memory block behind every record.
    """
    _ENCODER.encode_into(record, _BUFFER)
    return bytes(_BUFFER)


@dataclass(slots=True)
class Stock:
    """Units of one SKU in one warehouse: free to sell, and reserved by orders."""

    available: int
    committed: int = 0


@dataclass(slots=True)
class Sku:
    """One variant; ``price`` is in minor units, ``extras`` are the fields that only some SKUs have."""

    id: int
    seller_sku: str
    variant: tuple[tuple[str, str], ...]
    price: int
    stock: dict[str, Stock]
    extras: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The variant as an order line prints it."""
        return ", ".join(value for _, value in self.variant) or "Default"


@dataclass(slots=True)
class Product:
    """One listing with its mutable state."""

    id: int
    good: Good
    title: str
    status: str
    create_time: int
    update_time: int
    skus: list[Sku]
    market: Market
    audit: str = "APPROVED"
    extras: Json = field(default_factory=dict)
    image: str = ""
    inventory_body: bytes | None = None

    def search_record(self) -> Json:
        """The product as Search Products lists it."""
        record: Json = {
            "audit": {"status": self.audit},
            "create_time": self.create_time,
            "has_draft": False,
            "id": str(self.id),
            "is_not_for_sale": False,
            "sales_regions": [self.market.region],
            "selling_format": "FIXED_PRICE",
            "skus": [self._sku_record(sku) for sku in self.skus],
            "status": self.status,
            "title": self.title,
            "update_time": self.update_time,
        }
        if self.audit == "PRE_APPROVED":
            record["audit"] = {"status": self.audit, "pre_approved_reasons": ["KYC_PENDING"]}
        return record | self.extras

    def inventory_record(self, sku_ids: frozenset[int] | None = None) -> Json:
        """The product as Inventory Search answers it, with all SKUs or only the asked ones."""
        skus = [sku for sku in self.skus if sku_ids is None or sku.id in sku_ids]
        return {"product_id": str(self.id), "skus": [_inventory_of(sku) for sku in skus]}

    def row(self) -> Row:
        """The product's present state as a searchable row; the kept inventory record is dropped."""
        self.inventory_body = None
        return Row(
            self.id, encode_sorted(self.search_record()), self.status, self.create_time, self.update_time
        )

    def _sku_record(self, sku: Sku) -> Json:
        money = self.market.money(sku.price)
        backorder = {"backorder_quantity": 50, "handling_time": 7} if "pre_sale" in sku.extras else {}
        record: Json = {
            "id": str(sku.id),
            "inventory": [
                {"quantity": stock.available, "warehouse_id": warehouse_id} | backorder
                for warehouse_id, stock in sku.stock.items()
            ],
            "price": {"currency": self.market.currency, "sale_price": money, "tax_exclusive_price": money},
            "seller_sku": sku.seller_sku,
            "status_info": {"status": "NORMAL"},
        }
        if "AUCTION" in self.extras.get("product_tags", ()):
            record["price"]["starting_bid_price"] = self.market.money(self.market.minor(1.0))
        return record | sku.extras


def _inventory_of(sku: Sku) -> Json:
    available = sum(stock.available for stock in sku.stock.values())
    record: Json = {
        "id": str(sku.id),
        "seller_sku": sku.seller_sku,
        "total_available_quantity": available,
        "total_committed_quantity": sum(stock.committed for stock in sku.stock.values()),
        "warehouse_inventory": [
            {
                "available_quantity": stock.available,
                "committed_quantity": stock.committed,
                "warehouse_id": warehouse_id,
            }
            for warehouse_id, stock in sku.stock.items()
        ],
    }
    if sku.id % 5 == 0:
        campaign, creator = available // 10, available // 20
        record["total_available_inventory_distribution"] = {
            "campaign_inventory": [{"campaign_name": "Payday Sale", "quantity": campaign}],
            "creator_inventory": [{"creator_name": "dailyfinds.by.mia", "quantity": creator}],
            "in_shop_inventory": {"quantity": available - campaign - creator},
        }
    return record


@dataclass(slots=True)
class ProductMaker:
    """Makes products and SKUs for one shop."""

    market: Market
    warehouse_ids: list[str]
    is_cross_border: bool
    ids: Identifiers
    rng: random.Random

    def make(self, good: Good, created: int, *, updated: int, status: str) -> Product:
        """A product with one to six SKUs and first stock in every sales warehouse."""
        rng = self.rng
        product_id = self.ids.take("product")
        variants = compose_variants(good, rng.choice((1, 2, 2, 3, 3, 4, 6)), rng=rng)
        product = Product(
            id=product_id, good=good, title=compose_title(good, self.market.region, rng=rng), status=status,
            create_time=created, update_time=updated, market=self.market,
            skus=[self.make_sku(good, variant) for variant in variants],
            audit=rng.choice(_AUDITS.get(status, ("APPROVED",))),
            image=f"https://p16-oec-sim.example/tos-sim-i/{product_id:x}~tplv-crop:800:800.jpeg",
        )  # fmt: skip
        product.extras = self._product_extras(product)
        return product

    def make_sku(self, good: Good, variant: tuple[tuple[str, str], ...]) -> Sku:
        """A SKU with stock; a few have no seller code at all."""
        rng = self.rng
        sku_id = self.ids.take("sku")
        tag = "".join(value[:3].upper() for _, value in variant).replace(" ", "")
        price = self.market.minor(good.usd * rng.uniform(0.85, 1.3))
        sku = Sku(
            id=sku_id,
            seller_sku="" if rng.random() < 0.05 else f"{good.category_id[-4:]}-{tag}-{sku_id % 1000:03d}",
            variant=variant,
            price=price,
            stock={warehouse_id: Stock(rng.randrange(0, 900)) for warehouse_id in self.warehouse_ids},
        )
        sku.extras = self._sku_extras(good, price)
        return sku

    def _sku_extras(self, good: Good, price: int) -> Json:
        rng, market = self.rng, self.market
        extras: Json = {}
        listed = market.money(price * 5 // 4)
        if market.region == "US":
            extras["list_price"] = {"amount": listed, "currency": "USD"}
            if rng.random() < 0.1:
                extras["external_list_prices"] = [
                    {"amount": listed, "currency": "USD", "source": "SHOPIFY_COMPARE_AT_PRICE"}
                ]
        if market.region == "DE" and good.is_drink:
            extras["fees"] = [{"additional_attribute": "SINGLE_USE", "amount": "0.25", "type": "PFAND"}]
        kind = rng.random()
        if kind < 0.01:
            extras["pre_sale"] = {"fulfillment_type": {"release_date": 1_900_000_000}, "type": "PRE_ORDER"}
        elif kind < 0.03:
            extras["pre_sale"] = {"fulfillment_type": {"handling_duration_days": 7}, "type": "MADE_TO_ORDER"}
        if rng.random() < 0.02:
            extras["status_info"] = {"deactivation_source": "SELLER", "status": "DEACTIVATED"}
        return extras

    def _product_extras(self, product: Product) -> Json:
        rng, region = self.rng, self.market.region
        extras: Json = {}
        if region == "US":
            extras["listing_quality_tier"] = rng.choice(("POOR", "FAIR", "GOOD", "GOOD", "EXCELLENT"))
            if rng.random() < 0.05:
                family = {"id": str(self.ids.take("product")), "products": [{"id": str(product.id)}]}
                extras["product_families"] = [family]
        if region == "US" and rng.random() < 0.02:
            extras |= {"product_tags": ["AUCTION"], "selling_format": "FIXED_PRICE_AND_LIVE_AUCTION"}
        if region == "ID":
            extras["integrated_platform_statuses"] = [{"platform": "TOKOPEDIA", "status": product.status}]
        if self.is_cross_border and product.status == "FAILED":
            extras["product_sync_fail_reasons"] = ["The required qualification is missed."]
        if rng.random() < 0.1:
            extras["recommended_categories"] = [
                {"id": product.good.category_id, "local_name": product.good.category}
            ]
        if rng.random() < 0.02:
            extras["is_not_for_sale"] = True
        if rng.random() < 0.02:
            sale_ms = (product.update_time + 86_400) * 1000
            extras["scheduled_sale"] = {"is_enabled_scheduled_sale": True, "schedule_sale_time": sale_ms}
        return extras
