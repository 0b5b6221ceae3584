"""Every sample body of the documentation goes the whole way: envelope, page, sink, table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync.store.leases import LeaseKeeper
from sync.store.page_writer import Target
from sync.store.pool import Database
from sync.store.sink import Sink
from sync.streams.base import WholeList
from sync.streams.registry import STREAMS
from sync.tiktok.envelope import read_envelope, read_page
from tests.support import SAMPLES

_STREAM_OF = {
    "orders_search": "orders",
    "order_detail": "orders",
    "partial_order": "orders",
    "products_search": "products",
    "inventory_search": "inventory",
    "warehouses_2": "warehouses",
}
_BODIES = [
    (path, stream)
    for path in sorted(SAMPLES.glob("*.json"))
    for part, stream in _STREAM_OF.items()
    if part in path.name and "request" not in path.name and "global" not in path.name
]
_KEYS = {"orders": "order_id", "products": "product_id", "warehouses": "warehouse_id"}


def test_the_samples_are_found_where_they_lie() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("this checkout has no sample bodies beside it")
    assert {stream for _, stream in _BODIES} == set(STREAMS)


@pytest.mark.parametrize(("path", "stream_name"), _BODIES, ids=lambda value: getattr(value, "name", value))
async def test_a_sample_body_becomes_rows(
    path: Path, stream_name: str, database_url: str, connection: asyncpg.Connection
) -> None:
    stream = STREAMS[stream_name]
    body = path.read_bytes()
    true: list[dict[str, Any]] = json.loads(body)["data"][stream.records]
    page = read_page(
        bytes(read_envelope(body).data), records=stream.records, key=stream.key, fetched_at=datetime.now(UTC)
    )
    target = Target(stream.name, stream.statement, divisible=not isinstance(stream.slicing, WholeList))
    async with Database(database_url, size=2) as database, LeaseKeeper(database_url) as leases:
        lease = await leases.acquire("7000714532876273420")
        assert lease is not None
        tally = await Sink(database).write(target, page, lease=lease)
    assert (tally.fetched, tally.rejected) == (len(true), 0)
    assert await connection.fetch("SELECT * FROM sync.rejects") == []
    if stream_name == "inventory":
        stored = await connection.fetch("SELECT sku_id, available_quantity FROM tiktok.inventory")
        assert {(r[0], r[1]) for r in stored} == {
            (sku["id"], stock["available_quantity"])
            for product in true
            for sku in product["skus"]
            for stock in sku["warehouse_inventory"]
        }
        return
    rows = await connection.fetch(f"SELECT {_KEYS[stream_name]}, _raw::text FROM tiktok.{stream_name}")
    assert {r[0]: json.loads(r[1]) for r in rows} == {record["id"]: record for record in true}
