"""Hazards of many shops in one process: what is wrong with one must not reach another."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.simulator.options import SimulatorOptions
from sync.store.leases import LeaseKeeper
from tests.conftest import StartSimulator
from tests.integration.hazards import count_orders, shop_ids, sync_all, wait_until_true
from tests.integration.store_probe import hold
from tests.support import connected_app, make_settings

_ORDERS = ("orders",)
_HAS_ASKED_FOR_A_LEASE = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'shopsync leases' AND query LIKE '%WITH wanted AS%')"
)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("app = 'us'", "us"),
        ("access_token = refresh_token", "connect the shop again"),
    ],
    ids=["an app that the settings lack", "tokens that cannot be opened"],
)
async def test_credentials_of_one_shop_that_are_of_no_use_leave_the_other_shop_complete(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    damage: str,
    named: str,
) -> None:
    # Slow enough that the other shop is still being read when the first one fails.
    simulator = await start_simulator(shops=2, options=SimulatorOptions(latency_s=0.2))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        bad, good = await shop_ids(app)
        await connection.execute(
            f"UPDATE sync.credentials SET {damage}"
            " WHERE credential_id = (SELECT credential_id FROM sync.shops WHERE shop_id = $1)",
            bad,
        )
        reports = await sync_all(app, streams=_ORDERS)
    assert [report.outcome for report in reports] == ["failed", "complete"]
    assert named in reports[0].problems[0]
    assert await count_orders(connection, good) == 300
    # It waits for its next turn instead of taking one at each tick.
    due = "SELECT due_at > now() FROM sync.cursors WHERE shop_id = $1 AND stream = 'orders'"
    assert await connection.fetchval(due, bad)


async def test_a_lease_row_that_somebody_keeps_locked_leaves_the_other_shop_complete(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(latency_s=0.2))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        locked, good = await shop_ids(app)
        await sync_all(app, streams=("warehouses",))
        async with connection.transaction():
            await connection.execute("SELECT FROM sync.leases WHERE shop_id = $1 FOR UPDATE", locked)
            reports = await asyncio.wait_for(sync_all(app, streams=_ORDERS), 30)
        assert reports[1].outcome == "complete"
        assert reports[0].outcome in ("failed", "busy")
        assert await count_orders(connection, good) == 300


async def test_a_wish_to_stop_that_comes_while_a_lease_is_taken_is_honoured(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        await sync_all(app, streams=("warehouses",))
        # Not of this connection: within a transaction it sees the backends of its beginning.
        locker = await asyncpg.connect(database_url)
        async with locker.transaction():
            await locker.execute("SELECT FROM sync.leases FOR UPDATE")
            running = asyncio.create_task(sync_all(app, streams=_ORDERS))
            await wait_until_true(connection, _HAS_ASKED_FOR_A_LEASE)
            await app.fleet.stop()
        await locker.close()
        (report,) = await asyncio.wait_for(running, 10)
    assert report.outcome == "stopped"
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 0


async def test_a_shop_that_waits_for_another_process_gives_its_seat_away(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=2)
    settings = make_settings(database_url, simulator, parallel_shops=1)
    async with connected_app(settings, simulator) as app, LeaseKeeper(database_url) as other:
        waiting, free = await shop_ids(app)
        lease = await hold(other, waiting)
        running = asyncio.create_task(sync_all(app, streams=_ORDERS, wait_for_lease=True))
        try:
            complete = "SELECT count(*) = 300 FROM tiktok.orders WHERE shop_id = $1"
            await wait_until_true(connection, complete, free)
            assert await count_orders(connection, waiting) == 0
            await other.release(lease)
            reports = await asyncio.wait_for(running, 10)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert [report.outcome for report in reports] == ["complete", "complete"]


async def test_a_person_s_pause_survives_what_the_run_under_way_finds_out(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (shop_id,) = await shop_ids(app)
        await sync_all(app, streams=("warehouses",))
        faults = simulator.simulation.faults
        faults.add({"fault": "shop_inactive", "path": "/orders/search"})
        answer = faults.add({"fault": "slow", "seconds": 0.5, "path": "/orders/search"})
        running = asyncio.create_task(sync_all(app, streams=_ORDERS))
        async with asyncio.timeout(10):
            while not answer.struck:
                await asyncio.sleep(0.01)
        await app.store.shops.pause(shop_id)
        (report,) = await running
    assert report.outcome in ("failed", "stopped")
    assert await connection.fetchval("SELECT state FROM sync.shops") == "paused"


async def test_a_database_that_others_keep_busy_for_ever_stops_no_shop(
    start_simulator: StartSimulator, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    # Several windows, so that after each the next has to be started.
    monkeypatch.setattr("sync.engine.plan.LEAF_ROWS", 100)
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        monkeypatch.setattr("sync.store.sink.Sink.wait_until_idle", lambda _: never())
        (report,) = await asyncio.wait_for(sync_all(app, streams=_ORDERS), 30)
    assert report.outcome == "complete"
    assert report.streams["orders"].done == 300
