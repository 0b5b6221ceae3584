"""How a record came into the tables: what `shopsync explain` asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sync.store.pool import Database


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in the tables. ``deleted_at`` is set where it is marked deleted."""

    shop_id: str
    shop_name: str | None
    status: str | None
    create_time: datetime | None
    update_time: datetime | None
    synced_at: datetime
    fetched_at: datetime
    slice_id: int | None
    deleted_at: datetime | None
    parts: str | None


@dataclass(frozen=True, slots=True)
class Stock:
    """What one warehouse has of a SKU; ``changes`` counts the rows of its history."""

    warehouse_id: str
    available_quantity: int | None
    committed_quantity: int | None
    synced_at: datetime
    fetched_at: datetime
    slice_id: int | None
    deleted_at: datetime | None
    changes: int


@dataclass(frozen=True, slots=True)
class Read:
    """A row of the ledger. ``reason`` is that of its run, where the run has a row."""

    slice_id: int
    since: datetime | None
    until: datetime | None
    keys: int | None
    verdict: str
    first_total: int | None
    last_total: int | None
    distinct_ids: int
    walks: int
    requests: int
    inserted: int
    updated: int
    stale: int
    unchanged: int
    rejected: int
    polls: int
    started_at: datetime
    finished_at: datetime
    run_id: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands, or stood, in a record's way."""

    shop_id: str
    trouble: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StockOrigin:
    """A warehouse's stock, and the read by which it came, where the ledger knows it."""

    stock: Stock
    read: Read | None


@dataclass(frozen=True, slots=True)
class Origin:
    """A stored record, and all that is known of how it came.

    ``reads_since`` are reads that would have shown a newer version, the last of which ended at
    ``last_read_at``; ``proven_at`` is when everything of its creation time was last proven to be stored.
    """

    stored: Stored
    read: Read | None
    reads_since: int
    last_read_at: datetime | None
    proven_at: datetime | None
    troubles: tuple[Trouble, ...]
    stock: tuple[StockOrigin, ...]


class Origins:
    """Tells of single records, however many there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def explain(self, kind: str, key: str, shops: Sequence[str] | None) -> list[Origin]:
        """The ``order``, ``product`` or ``sku`` of that id, in each of the shops that has one."""
        rows = await self._database.rows(f"explain_{kind}", key, None if shops is None else list(shops))
        return [await self._explain(kind, key, Stored(**row)) for row in rows]

    async def troubles(self, shops: Sequence[str] | None, stream: str, key: str) -> list[Trouble]:
        """What stands in the record's way, oldest first, whether or not it is stored."""
        values = (None if shops is None else list(shops), stream, key)
        return [Trouble(**row) for row in await self._database.rows("trouble_of", *values)]

    async def _explain(self, kind: str, key: str, stored: Stored) -> Origin:
        stream, shop_id = stream_of(kind), stored.shop_id
        reads, last_at = 0, None
        if stored.update_time is not None:
            values = (shop_id, stream, stored.update_time, stored.synced_at)
            (row,) = await self._database.rows("slices_over", *values)
            reads, last_at = int(row["reads"]), row["last_at"]
        stock = await self._database.rows("explain_stock", shop_id, key) if kind == "sku" else []
        return Origin(
            stored=stored,
            read=await self._read_of(shop_id, stream, stored.slice_id, stored.fetched_at),
            reads_since=reads,
            last_read_at=last_at,
            proven_at=await self._proven_at(shop_id, stream, stored.create_time),
            troubles=tuple(await self.troubles([shop_id], stream, key)),
            stock=tuple([await self._stock_origin(shop_id, Stock(**row)) for row in stock]),
        )

    async def _stock_origin(self, shop_id: str, stock: Stock) -> StockOrigin:
        read = await self._read_of(shop_id, "inventory", stock.slice_id, stock.fetched_at)
        return StockOrigin(stock, read)

    async def _read_of(
        self, shop_id: str, stream: str, slice_id: int | None, fetched_at: datetime
    ) -> Read | None:
        """The row of the ledger that accounts for a version; None when there is none."""
        if slice_id is None:
            return None
        rows = await self._database.rows("slice_by_id", slice_id, shop_id, stream, fetched_at)
        return Read(**rows[0]) if rows else None

    async def _proven_at(self, shop_id: str, stream: str, created: datetime | None) -> datetime | None:
        if created is None:
            return None
        moment: datetime | None = await self._database.value("proven_at", shop_id, stream, created)
        return moment


def stream_of(kind: str) -> str:
    """The stream that brings what people call an order, a product or a SKU."""
    return "orders" if kind == "order" else "products"
