"""What is true of a shop, and what its searches show of that by now."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left, insort
from dataclasses import dataclass, field


@dataclass(slots=True)
class Version:
    """One version of an order or a product: when it was changed, and how often before."""

    update_s: int
    number: int = 1
    is_deleted: bool = False


@dataclass(slots=True)
class Table:
    """Orders or products: the truth, and the searches' index, which follows after a while."""

    kind: str
    truth: dict[str, Version] = field(default_factory=dict)
    shown: dict[str, Version] = field(default_factory=dict)
    index: list[tuple[int, str]] = field(default_factory=list)
    _late: list[tuple[float, int, str, Version]] = field(default_factory=list)
    _order: int = 0

    def change(self, key: str, now: float, *, lag_s: float, deletes: bool = False) -> Version:
        """A new version, of now; the searches show it ``lag_s`` later."""
        known = self.truth.get(key)
        number = 1 if known is None else known.number + 1
        version = Version(int(now), number, deletes)
        self.truth[key] = version
        self._order += 1
        heapq.heappush(self._late, (now + lag_s, self._order, key, version))
        self.catch_up(now)
        return version

    def catch_up(self, now: float) -> None:
        """The searches show what they should by now; never an older version after a newer one."""
        while self._late and self._late[0][0] <= now:
            _, _, key, version = heapq.heappop(self._late)
            known = self.shown.get(key)
            if known is not None:
                if known.number > version.number:
                    continue
                del self.index[bisect_left(self.index, (known.update_s, key))]
            self.shown[key] = version
            insort(self.index, (version.update_s, key))

    def find(self, since: int, until: int) -> list[str]:
        """Keys whose shown update time lies in [since, until), in that order."""
        start, end = bisect_left(self.index, (since, "")), bisect_left(self.index, (until, ""))
        return [key for _, key in self.index[start:end]]

    def due(self, since: int, until: int) -> list[str]:
        """Keys whose true update time lies in [since, until), whether or not the searches show it by now."""
        late = [key for *_, key, version in self._late if since <= version.update_s < until]
        return [k for k in (*self.find(since, until), *late) if since <= self.truth[k].update_s < until]

    def render(self, key: str, version: Version) -> bytes:
        """The record as the API sends it."""
        state = "DELETED" if version.is_deleted else "COMPLETED" if self.kind == "orders" else "ACTIVATE"
        return (
            f'{{"id":"{key}","status":"{state}","update_time":{version.update_s},"v":{version.number}}}'
        ).encode()


@dataclass(slots=True)
class Seller:
    """One shop. Stock and warehouses have no update times, and show at once."""

    shop_id: str
    rng: random.Random
    orders: Table = field(default_factory=lambda: Table("orders"))
    products: Table = field(default_factory=lambda: Table("products"))
    stock: dict[str, int] = field(default_factory=dict)
    warehouses: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    def table(self, stream: str) -> Table:
        return self.orders if stream == "orders" else self.products

    def make(self, stream: str, now: float, *, lag_s: float = 0.0) -> str:
        """A new order or product."""
        self._made += 1
        # Ids do not come in the order of their making.
        key = f"{self._made * 7919 % 99991:05d}{self._made}"
        self.table(stream).change(key, now, lag_s=lag_s)
        if stream == "products":
            self.stock[key] = self.rng.randint(0, 9)
        return key

    def touch(self, stream: str, key: str, now: float, *, lag_s: float) -> None:
        """The record has changed, unless it is gone for good."""
        if not self.table(stream).truth[key].is_deleted:
            self.table(stream).change(key, now, lag_s=lag_s)

    def delete(self, key: str, now: float, *, lag_s: float) -> None:
        """The product is deleted, and its stock is nobody's."""
        self.products.change(key, now, lag_s=lag_s, deletes=True)
        self.stock.pop(key, None)

    def render_stock(self, product_id: str) -> bytes:
        """One element of an inventory answer: a product with a single SKU in a single warehouse."""
        level = f'[{{"warehouse_id":"1","available_quantity":{self.stock[product_id]}}}]'
        sku = f'{{"id":"9{product_id}","warehouse_inventory":{level}}}'
        return f'{{"product_id":"{product_id}","skus":[{sku}]}}'.encode()

    def render_sku(self, product_id: str) -> bytes:
        """The SKU of that answer, as the tables keep it."""
        level = f'[{{"warehouse_id":"1","available_quantity":{self.stock[product_id]}}}]'
        return f'{{"id":"9{product_id}","warehouse_inventory":{level}}}'.encode()

    def render_warehouse(self, key: str) -> bytes:
        return f'{{"id":"{key}","name":"warehouse {self.warehouses[key]}"}}'.encode()
