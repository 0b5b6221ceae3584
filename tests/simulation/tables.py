"""What the statements that store pages do, in memory, and the ledger's. See books.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from tests.simulation.books import Books
from tests.simulation.postgres import Server, Transaction
from tests.simulation.rows import Row, close

_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OUTCOMES = ("inserted", "updated", "stale", "unchanged")


class _Record(msgspec.Struct):
    """What is read of an order or a product."""

    id: str
    update_time: int = 0
    status: str = ""


class _Level(msgspec.Struct):
    warehouse_id: str


class _Sku(msgspec.Struct):
    id: str
    warehouse_inventory: list[_Level] = []


class _Stock(msgspec.Struct):
    product_id: str
    skus: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class Stored:
    """One row; ``fetched_at`` is that of the answer that it came with."""

    raw: Any
    update_time: int
    fetched_at: datetime
    digest: bytes | None = None
    product_id: str = ""
    is_deleted: bool = False


Key = tuple[str, ...]


class Tables:
    """The schema tiktok. ``on_write`` hears of each row that changes, ``on_close`` of each window covered."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.rows: dict[str, dict[Key, Stored]] = {
            name: {} for name in ("orders", "products", "inventory", "warehouses")
        }
        self.on_write: Callable[[str, Key, Stored | None, Stored], None] = lambda *_: None
        self.on_close: Callable[[str, str, datetime, datetime], None] = lambda *_: None

    def _write(self, server: Server, t: Transaction, table: str, key: Key, row: Stored) -> None:
        def write() -> None:
            self.on_write(table, key, self.rows[table].get(key), row)
            self.rows[table][key] = row

        t.writes.append(write)

    @staticmethod
    def _lock(server: Server, t: Transaction, table: str, keys: Sequence[Key]) -> None:
        for key in sorted(keys):
            server.lock(t, (table, *key))

    # orders.sql and products.sql

    def known(self, table: str) -> Callable[..., list[Row]]:
        def known(
            server: Server,
            _t: Transaction,
            shop_id: str,
            ids: Sequence[str],
            digests: Sequence[bytes],
            owner: Any,
            epoch: int,
        ) -> list[Row]:
            rows = self.rows[table]
            same = [
                i
                for i, digest in zip(ids, digests, strict=True)
                if (row := rows.get((shop_id, i))) is not None and row.digest == digest
            ]
            held = self._books.holds(shop_id, owner, epoch, server.world.now)
            return [Row(ids=same or None if held else None)]

        return known

    def store_orders(self, server: Server, t: Transaction, *values: Any) -> list[Row]:
        return self._store("orders", server, t, *values)

    def store_products(self, server: Server, t: Transaction, *values: Any) -> list[Row]:
        return self._store("products", server, t, *values)

    def _store(
        self,
        table: str,
        server: Server,
        t: Transaction,
        shop_id: str,
        records: bytes,
        fetched_at: datetime,
        _scrubbed: Any,
        digests: Sequence[bytes | None],
        rejected: Sequence[str],
        _slice_id: int | None,
    ) -> list[Row]:
        newest: dict[str, Stored] = {}
        for raw, digest in zip(_decode(records), digests, strict=True):
            record = msgspec.json.decode(raw, type=_Record)
            known = newest.get(record.id)
            if known is None or record.update_time >= known.update_time:
                deleted = table == "products" and record.status == "DELETED"
                newest[record.id] = Stored(
                    bytes(raw), record.update_time, fetched_at, digest, is_deleted=deleted
                )
        self._lock(server, t, table, [(shop_id, key) for key in newest])
        counts = dict.fromkeys(_OUTCOMES, 0)
        for key in sorted(newest):
            row, stored = newest[key], self.rows[table].get((shop_id, key))
            verdict = self.judge(row, stored, is_rejected=key in rejected)
            counts[verdict] += 1
            if verdict in ("inserted", "updated"):
                self._write(server, t, table, (shop_id, key), row)
                if row.is_deleted:
                    self._delete_stock(server, t, shop_id, key)
        return [Row(**counts)]

    @staticmethod
    def judge(row: Stored, stored: Stored | None, *, is_rejected: bool) -> str:
        """What becomes of the row: the newest update time wins, among equal ones the later fetch."""
        if stored is None:
            return "inserted"
        if row.update_time != stored.update_time:
            return "updated" if row.update_time > stored.update_time else "stale"
        if row.raw == stored.raw and not is_rejected and (row.is_deleted or not stored.is_deleted):
            return "unchanged"
        return "updated" if row.fetched_at >= stored.fetched_at else "stale"

    def _delete_stock(self, server: Server, t: Transaction, shop_id: str, product_id: str) -> None:
        for key, row in self.rows["inventory"].items():
            if key[0] == shop_id and row.product_id == product_id and not row.is_deleted:
                server.lock(t, ("inventory", *key))
                self._write(server, t, "inventory", key, replace(row, is_deleted=True))

    def product_ids(self, _s: Server, _t: Transaction, shop_id: str) -> list[Row]:
        products = self.rows["products"]
        return [
            Row(product_id=k[1]) for k in sorted(products) if k[0] == shop_id and not products[k].is_deleted
        ]

    # inventory.sql and warehouses.sql

    def store_inventory(
        self,
        server: Server,
        t: Transaction,
        shop_id: str,
        records: bytes,
        fetched_at: datetime,
        _scrubbed: Any,
        rejected: Sequence[str],
        _slice_id: int | None,
    ) -> list[Row]:
        products, listed = self.rows["products"], dict[Key, Stored]()
        answered = []
        for raw in _decode(records):
            stock = msgspec.json.decode(raw, type=_Stock)
            product = products.get((shop_id, stock.product_id))
            if product is not None and product.is_deleted:
                continue
            if stock.skus:
                answered.append(stock.product_id)
            for sku_raw in stock.skus:
                sku = msgspec.json.decode(sku_raw, type=_Sku)
                for level in sku.warehouse_inventory:
                    key = (shop_id, sku.id, level.warehouse_id)
                    listed[key] = Stored(bytes(sku_raw), 0, fetched_at, product_id=stock.product_id)
        rows = self.rows["inventory"]
        absent = [
            k
            for k, row in rows.items()
            if k[0] == shop_id
            and row.product_id in answered
            and not row.is_deleted
            and row.fetched_at <= fetched_at
            and k not in listed
        ]
        self._lock(server, t, "inventory", [*listed, *absent])
        for product_id in {row.product_id for row in listed.values()}:
            server.lock(t, ("products", shop_id, product_id), shared=True)
        return self._replace(server, t, "inventory", listed, absent, fetched_at, rejected)

    def store_warehouses(
        self,
        server: Server,
        t: Transaction,
        shop_id: str,
        records: bytes,
        fetched_at: datetime,
        _scrubbed: Any,
        rejected: Sequence[str],
        is_whole: bool,
        _slice_id: int | None,
    ) -> list[Row]:
        listed: dict[Key, Stored] = {
            (shop_id, msgspec.json.decode(raw, type=_Record).id): Stored(bytes(raw), 0, fetched_at)
            for raw in _decode(records)
        }
        absent = [
            k
            for k, row in self.rows["warehouses"].items()
            if is_whole
            and k[0] == shop_id
            and not row.is_deleted
            and row.fetched_at <= fetched_at
            and k not in listed
        ]
        self._lock(server, t, "warehouses", [*listed, *absent])
        return self._replace(server, t, "warehouses", listed, absent, fetched_at, rejected)

    def _replace(
        self,
        server: Server,
        t: Transaction,
        table: str,
        listed: dict[Key, Stored],
        absent: Sequence[Key],
        fetched_at: datetime,
        rejected: Sequence[str],
    ) -> list[Row]:
        """The later fetch wins; what a whole answer lacks is marked deleted."""
        counts = dict.fromkeys(_OUTCOMES, 0)
        for key, row in sorted(listed.items(), key=lambda item: item[0]):
            stored = self.rows[table].get(key)
            is_same = stored is not None and (stored.raw, stored.product_id) == (row.raw, row.product_id)
            if stored is None:
                verdict = "inserted"
            elif is_same and not stored.is_deleted and (row.product_id or key[1]) not in rejected:
                verdict = "unchanged"
            else:
                verdict = "updated" if fetched_at >= stored.fetched_at else "stale"
            counts[verdict] += 1
            if verdict in ("inserted", "updated"):
                self._write(server, t, table, key, row)
        for key in absent:
            gone = replace(self.rows[table][key], is_deleted=True, fetched_at=fetched_at)
            self._write(server, t, table, key, gone)
        counts["updated"] += len(absent)
        return [Row(**counts)]

    # The ledger: closing a slice. What is accounted for is not kept, only what is covered.

    def close_slices(self, server: Server, t: Transaction, *columns: Sequence[Any]) -> list[Row]:
        rows = []
        for place, values in enumerate(zip(*columns, strict=True), start=1):
            _run, shop_id, stream, since, until, settled_until, covers, *_ = values
            cursor = self._books.cursors.get((shop_id, stream))
            if cursor is None:
                continue
            server.lock(t, ("cursor", shop_id, stream))

            def cover(cursor: Any = cursor, of: Any = (shop_id, stream, since, until, settled_until)) -> None:
                shop, name, a, b, settled = of
                close(cursor, a, b, settled)
                self.on_close(shop, name, a, min(b, settled))

            if covers:
                t.writes.append(cover)
            rows.append(Row(shop_id=shop_id, stream=stream, slice_id=place, polls=1, is_counted=False))
        return rows
