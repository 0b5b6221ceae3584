"""A database with the real tables, and the store statements called as the sink calls them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync.store.queries import query

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP = "7000714532876273420"
SAMPLES = Path(__file__).parents[3] / "shared" / "reference" / "samples"

Json = dict[str, Any]


def at(seconds: int) -> datetime:
    """The moment so many seconds after the first fetch of a test."""
    return T0 + timedelta(seconds=seconds)


class Copy:
    """One session on the tables of one shop."""

    def __init__(self, connection: asyncpg.Connection, url: str) -> None:
        self.connection = connection
        self.url = url

    async def store(
        self,
        stream: str,
        records: Iterable[Json],
        *,
        fetched: int = 0,
        scrubbed: Iterable[str] = (),
        rejected: Iterable[str] = (),
        is_whole: bool = True,
    ) -> tuple[int, int, int, int]:
        """Inserted, updated, stale, unchanged."""
        sent = list(records)
        values = [SHOP, json.dumps(sent).encode(), at(fetched), list(scrubbed)]
        if stream in ("orders", "products"):
            values.append([hashlib.sha1(json.dumps(record).encode()).digest()[:16] for record in sent])
        values.append(list(rejected))
        if stream == "warehouses":
            values.append(is_whole)
        values.append(None)
        return tuple(await self.connection.fetchrow(query(f"store_{stream}"), *values))

    async def rows(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        return list(await self.connection.fetch(sql, *values))

    async def column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in await self.rows(sql, *values)]

    async def versions(self, table: str) -> dict[str, str]:
        """What changes whenever a row is written or locked, by the row's key."""
        rows = await self.rows(
            f"SELECT t.ctid::text || t.xmin::text || t.xmax::text || t._synced_at AS version,"
            f" to_jsonb(t) - '_raw' AS t FROM tiktok.{table} AS t"
        )
        return {r["t"]: r["version"] for r in rows}

    @asynccontextmanager
    async def another_session(self) -> AsyncIterator[Copy]:
        connection = await connect(self.url)
        try:
            yield Copy(connection, self.url)
        finally:
            await connection.close()

    async def wait_until_blocked(self, other: Copy) -> None:
        """Returns when the other session waits for a lock."""
        sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
        async with asyncio.timeout(20):
            # The server tells nobody that a session began to wait, so there is no event to wait for.
            while not await self.connection.fetchval(sql, other.connection.get_server_pid()):
                await asyncio.sleep(0.005)


async def connect(url: str) -> asyncpg.Connection:
    # As the pool of the application: typing that raises, and never a plan that reads a whole table.
    settings = {"search_path": "sync_strict", "enable_seqscan": "off", "jit": "off"}
    return await asyncpg.connect(url, server_settings=settings)


def read_sample(name: str) -> Json:
    """The ``data`` of a sample response; the test is skipped where the samples are not at hand."""
    path = SAMPLES / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    data: Json = json.loads(path.read_text())["data"]
    return data
