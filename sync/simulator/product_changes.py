"""What happens to products and stock while somebody reads them."""

from __future__ import annotations

from dataclasses import replace

from sync.simulator.catalog import GOODS, compose_title, compose_variants
from sync.simulator.changes import Changes
from sync.simulator.notices import (
    category_changed,
    product_created,
    product_edited,
    product_switched,
    sku_changed,
)
from sync.simulator.products import Product
from sync.simulator.shops import Shop


class ProductChanges(Changes):
    """Products are listed, edited, switched and deleted, and their stock moves."""

    def move_stock(self, shop: Shop) -> str:
        """One SKU's stock in one warehouse changes; the product's update_time does not."""
        product = self._product(shop)
        if product is None:
            return ""
        sku = self._rng.choice(product.skus)
        stock = self._rng.choice(list(sku.stock.values()))
        before = stock.available
        stock.available = max(0, before + self._rng.choice((-3, -2, -1, 1, 2, 60)))
        shop.product_rows.amend(product.row())
        self._tell_stock(shop, product, sku, available=stock.available - before, committed=0, cause="SELLER")
        return str(product.id)

    def edit_product(self, shop: Shop) -> str:
        """A product has a new title, a new price, or was switched on or off."""
        product = self._product(shop)
        if product is None:
            return ""
        kind = self._rng.random()
        if kind < 0.4:
            product.title = compose_title(product.good, shop.market.region, rng=self._rng)
        elif kind < 0.9:
            sku = self._rng.choice(product.skus)
            sku.price = shop.market.minor(product.good.usd * self._rng.uniform(0.7, 1.3))
        else:
            product.status = "SELLER_DEACTIVATED" if product.status == "ACTIVATE" else "ACTIVATE"
        self._store_product(shop, product)
        if kind < 0.9:
            self._tell(shop.shop_id, *product_edited(product, field="title" if kind < 0.4 else "others"))
        else:
            self._tell(shop.shop_id, product_switched(product))
        return str(product.id)

    def create_product(self, shop: Shop) -> str:
        """A new product is listed."""
        now = int(self._now())
        product = self._world.makers[shop.shop_id].make(
            self._rng.choice(GOODS), now, updated=now, status="ACTIVATE"
        )
        shop.products[product.id] = product
        shop.product_of_sku |= {sku.id: product.id for sku in product.skus}
        self._store_product(shop, product)
        self._tell(shop.shop_id, *product_created(product))
        return str(product.id)

    def change_skus(self, shop: Shop) -> str:
        """A product has one SKU more, or one less."""
        product = self._product(shop)
        if product is None:
            return ""
        if len(product.skus) > 1 and self._rng.random() < 0.5:
            gone = product.skus.pop(self._rng.randrange(len(product.skus)))
            del shop.product_of_sku[gone.id]
            changed, status = gone.id, "DELETED"
        else:
            taken = {sku.variant for sku in product.skus}
            free = [one for one in compose_variants(product.good, 99, rng=self._rng) if one not in taken]
            if not free:
                return ""
            sku = self._world.makers[shop.shop_id].make_sku(product.good, free[0])
            product.skus.append(sku)
            shop.product_of_sku[sku.id] = product.id
            changed, status = sku.id, "CREATED"
        self._store_product(shop, product)
        self._tell(shop.shop_id, sku_changed(product, changed, status=status))
        return str(product.id)

    def change_category(self, shop: Shop) -> str:
        """A product stands in another category."""
        product = self._product(shop)
        if product is None:
            return ""
        before = product.good.category_id
        other = self._rng.choice([good for good in GOODS if good.category_id != before])
        product.good = replace(product.good, category_id=other.category_id, category=other.category)
        self._store_product(shop, product)
        self._tell(shop.shop_id, category_changed(product, before=before))
        return str(product.id)

    def delete_product(self, shop: Shop) -> str:
        """A product's status is DELETED; a shop keeps at least eight others."""
        product = self._product(shop)
        if product is None or len(shop.products) - shop.product_rows.shown_by_status["DELETED"] <= 8:
            return ""
        product.status = "DELETED"
        self._store_product(shop, product)
        self._tell(shop.shop_id, product_switched(product))
        return str(product.id)

    def _product(self, shop: Shop) -> Product | None:
        ids = list(shop.products)
        for _ in range(20):
            product = shop.products[self._rng.choice(ids)]
            if product.status in ("ACTIVATE", "SELLER_DEACTIVATED"):
                return product
        return None

    def _store_product(self, shop: Shop, product: Product) -> None:
        product.update_time = int(self._now())
        self._put(shop.product_rows, product.row())
        self._world.order_makers[shop.shop_id].lines.offer(shop.products.values())
