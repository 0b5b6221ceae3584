"""The daemon's loop over shops that are due: however it ends, it leaves nothing running behind."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.app import open_app
from sync.engine.requests import DUE, SyncRequest
from sync.engine.stream_sync import StreamSync
from sync.jobs.local import LocalJobs
from sync.simulator.options import SimulatorOptions
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.support import connected_app, make_settings


async def test_a_daemon_that_is_cut_off_takes_its_syncs_along(
    start_simulator: StartSimulator, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(latency_s=0.2))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        jobs = LocalJobs(
            fleet=app.fleet, cursors=app.store.cursors, streams=tuple(STREAMS), tick_s=0.01, most_at_once=4
        )
        daemon = asyncio.create_task(jobs.run(asyncio.Event()))
        async with asyncio.timeout(20):
            while not app.fleet.running:
                await asyncio.sleep(0.01)
        daemon.cancel()
        with pytest.raises(asyncio.CancelledError):
            await daemon
        assert app.fleet.running == frozenset()
    assert "sync_crashed" not in capsys.readouterr().out


async def test_what_there_was_no_room_for_is_begun_as_soon_as_there_is(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=6, orders_per_shop=5, products_per_shop=2)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        jobs = LocalJobs(
            fleet=app.fleet, cursors=app.store.cursors, streams=tuple(STREAMS), tick_s=3600, most_at_once=2
        )
        stopping = asyncio.Event()
        daemon = asyncio.create_task(jobs.run(stopping))
        async with asyncio.timeout(30):
            while await connection.fetchval("SELECT count(*) FROM sync.cursors WHERE succeeded_at IS NULL"):
                await asyncio.sleep(0.02)
        stopping.set()
        await daemon


async def test_rounds_that_find_nothing_new_leave_no_row_behind(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=5, products_per_shop=2)
    (shop_id,) = simulator.world.shops
    rows = "SELECT (SELECT count(*) FROM sync.runs), (SELECT count(*) FROM sync.slices)"
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        seen = []
        for _ in range(4):
            report = await app.fleet.sync(SyncRequest(shop_id, tuple(STREAMS), reason=DUE))
            assert report.outcome == "complete"
            seen.append(tuple(await connection.fetchrow(rows)))
    assert [runs for runs, _ in seen] == [1, 1, 1, 1]
    # The first quiet slices have rows, which all that follow prolong.
    assert seen[1] == seen[2] == seen[3]


async def test_a_round_that_fails_has_a_row_that_says_why(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=5, products_per_shop=2)
    (shop_id,) = simulator.world.shops
    (seller,) = simulator.simulation.accounts.consents
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        simulator.simulation.accounts.revoke(seller)
        await app.fleet.sync(SyncRequest(shop_id, tuple(STREAMS), reason=DUE))
    row = await connection.fetchrow("SELECT outcome, error, finished_at FROM sync.runs")
    assert row["outcome"] == "failed"
    assert row["error"] is not None
    assert row["finished_at"] is not None


async def test_a_round_that_lasts_shows_while_it_runs(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync.engine.run._LASTS_S", 0.05)
    simulator = await start_simulator(orders_per_shop=0, options=SimulatorOptions(latency_s=1.5))
    (shop_id,) = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        request = SyncRequest(shop_id, ("orders",), reason=DUE)
        round_ = asyncio.create_task(app.fleet.sync(request))
        async with asyncio.timeout(20):
            while not await connection.fetchval("SELECT count(*) FROM sync.runs WHERE finished_at IS NULL"):
                await asyncio.sleep(0.02)
        assert not round_.done()
        await round_
    assert await connection.fetchval("SELECT outcome FROM sync.runs") == "complete"


async def test_a_pace_that_was_learnt_outlives_the_process(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=5, products_per_shop=2)
    (shop_id,) = simulator.world.shops
    settings = make_settings(database_url, simulator)
    async with connected_app(settings, simulator) as app:
        await app.fleet.sync(SyncRequest(shop_id, ("orders",), reason=DUE))
        assert await connection.fetchval("SELECT learned_rate FROM sync.leases") is None
    await connection.execute("UPDATE sync.leases SET learned_rate = 21.5")
    async with open_app(settings) as app:
        await app.fleet.sync(SyncRequest(shop_id, ("orders",), reason=DUE))
        assert await connection.fetchval("SELECT learned_rate FROM sync.leases") == 21.5


async def test_a_shop_that_makes_shopsync_crash_waits_like_one_that_fails(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(StreamSync, "run", crash)
    simulator = await start_simulator(orders_per_shop=5, products_per_shop=2)
    (shop_id,) = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        with pytest.raises(ExceptionGroup):
            await app.fleet.sync(SyncRequest(shop_id, tuple(STREAMS), reason=DUE))
        assert await app.store.cursors.due_shops(tuple(STREAMS), at_most=10, besides=[]) == []
    cursors = await connection.fetch("SELECT failures, last_error FROM sync.cursors")
    assert [row["failures"] for row in cursors] == [1] * len(STREAMS)
    assert all("a fault in shopsync itself" in row["last_error"] for row in cursors)
    run = await connection.fetchrow("SELECT outcome, finished_at FROM sync.runs")
    assert run["outcome"] == "failed"
    assert run["finished_at"] is not None
