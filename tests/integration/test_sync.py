"""The engine against the simulator: whatever moves, the copy ends up true."""

from __future__ import annotations

import asyncpg
import pytest

from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.app import App
from sync.simulator.options import SimulatorOptions
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.oracle import compare
from tests.support import connected_app, make_settings


async def sync_all(app: App, **changes: object) -> list[RunReport]:
    rows = await app.store.shops.list()
    requests = [SyncRequest(r.shop.shop_id, tuple(STREAMS), "test", passes=3) for r in rows]
    reports = [new_report(r) for r in requests]
    await app.fleet.sync_all(requests, reports=reports)
    return reports


@pytest.mark.parametrize("paging", ["offset", "keyset", "snapshot"])
async def test_the_copy_equals_the_truth_after_a_quiet_round(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection, paging: str
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(paging=paging))  # type: ignore[arg-type]
    settings = make_settings(database_url, simulator, settle_s=0)
    async with connected_app(settings, simulator) as app:
        reports = await sync_all(app)
    assert [r.outcome for r in reports] == ["complete", "complete"]
    assert await compare(connection, simulator.url, simulator.world.shops) == []
