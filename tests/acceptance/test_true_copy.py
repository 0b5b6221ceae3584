"""Thirty thousand orders that change while they are read end up equal to the truth, within the limit."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import asyncpg

from tests.acceptance.processes import Bench, bench_environment, connect_sellers, simulate
from tests.oracle import compare

_TABLES = (
    "shops",
    "orders",
    "order_line_items",
    "products",
    "skus",
    "inventory",
    "warehouses",
)


async def test_a_large_copy_made_amid_changes_is_true_after_a_quiet_round_and_then_rests(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    folder = tmp_path / "simulator"
    folder.mkdir()
    size = ("--shops", "3", "--orders", "10000", "--products", "150", "--flash-sale", "3000")
    async with simulate(folder, *size, "--latency", "0.05", "--mutations", "0") as shops:
        await connect_sellers(database_url, shops.url)
        bench = Bench(tmp_path, bench_environment(database_url, shops.url))
        try:
            await shops.post("mutate", per_second=50)
            backfill = await bench.shopsync("backfill")
            assert backfill.code == 0, backfill.err
            done = (await shops.get("stats"))["mutations"]["done"]
            await shops.quiet_down()
            once = await bench.shopsync("run", "--once")
            assert once.code == 0, once.err
            assert await compare(connection, shops.url, await shops.shop_ids()) == []
            assert sum(done.values()) > 100
            before = await newest_change(connection)
            # The lookback reads the last changes once more, and finds them as they are.
            again = await bench.shopsync("run", "--once")
            assert again.code == 0, again.err
            assert await newest_change(connection) == before
            assert await shops.worst_second() <= 50
        finally:
            await bench.close()


async def newest_change(connection: asyncpg.Connection) -> dict[str, tuple[int, datetime | None]]:
    """How many rows each table has and when one of them last changed."""
    found = {}
    for table in _TABLES:
        row = await connection.fetchrow(f"SELECT count(*), max(_synced_at) FROM tiktok.{table}")
        assert row is not None
        found[table] = (row[0], row[1])
    history = "SELECT count(*), max(greatest(valid_from, valid_to)) FROM tiktok.inventory_history"
    row = await connection.fetchrow(history)
    assert row is not None
    found["inventory_history"] = (row[0], row[1])
    return found
