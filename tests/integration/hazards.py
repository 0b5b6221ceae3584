"""What the tests of hazards share: rounds of a fleet, and ways to wait for a state of affairs."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from sync.app import App
from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.errors import DatabaseGoneError
from sync.streams.registry import STREAMS

# A pooled connection, or the one of the leases, that stands before a row somebody else has locked.
WAITS_FOR_A_LOCK = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'shopsync%' AND wait_event_type = 'Lock')"
)
_PATIENCE_S = 20


async def sync_all(
    app: App, *, streams: tuple[str, ...] = tuple(STREAMS), wait_for_lease: bool = False, **request: Any
) -> list[RunReport]:
    """One round of every shop, in the order in which `shops list` shows them."""
    rows = await app.store.shops.list()
    requests = [SyncRequest(row.shop.shop_id, streams, "test", **request) for row in rows]
    reports = [new_report(r) for r in requests]
    await app.fleet.sync_all(requests, reports=reports, wait_for_lease=wait_for_lease)
    return reports


async def sync_until_complete(app: App) -> None:
    """Rounds, through whatever breaks, until one is complete for every shop."""
    async with asyncio.timeout(3 * _PATIENCE_S):
        while True:
            try:
                reports = await sync_all(app, wait_for_lease=True)
            except DatabaseGoneError:
                await asyncio.sleep(0.05)  # A server that restarts refuses at once.
                continue
            if {report.outcome for report in reports} == {"complete"}:
                return


async def wait_until_true(connection: asyncpg.Connection, question: str, *values: object) -> None:
    """Returns when Postgres says yes; it tells nobody by itself."""
    async with asyncio.timeout(_PATIENCE_S):
        while not await connection.fetchval(question, *values):
            await asyncio.sleep(0.01)


async def count_orders(connection: asyncpg.Connection, shop_id: str) -> int:
    """How many orders of the shop are stored."""
    return int(await connection.fetchval("SELECT count(*) FROM tiktok.orders WHERE shop_id = $1", shop_id))


async def shop_ids(app: App) -> list[str]:
    """The connected shops, in the order of a round's reports."""
    return [row.shop.shop_id for row in await app.store.shops.list()]
