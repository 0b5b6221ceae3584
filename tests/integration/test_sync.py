"""The engine against the simulator: whatever moves, the copy ends up true."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.model import Window
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.oracle import compare
from tests.support import connected_app, make_settings

TABLES = (
    "orders", "order_line_items", "products", "skus", "inventory", "inventory_history", "warehouses",
)  # fmt: skip


async def sync_all(
    app: App, *, streams: tuple[str, ...] = tuple(STREAMS), wait_for_lease: bool = False, **request: Any
) -> list[RunReport]:
    """One round of every shop."""
    rows = await app.store.shops.list()
    requests = [SyncRequest(row.shop.shop_id, streams, "test", **{"passes": 3, **request}) for row in rows]
    reports = [new_report(r) for r in requests]
    await app.fleet.sync_all(requests, reports=reports, wait_for_lease=wait_for_lease)
    return reports


async def wait_for_the_next_second() -> None:
    """A window ends with a whole second that is over: what happened in this one is read in the next."""
    now = datetime.now(UTC)
    await asyncio.sleep(1.05 - now.microsecond / 1e6)


async def assert_true(connection: asyncpg.Connection, simulator: RunningSimulator) -> None:
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def newest_changes(connection: asyncpg.Connection) -> dict[str, Any]:
    """When a row of each table was last written, and how many there are."""
    changes = {}
    for table in TABLES:
        moment = "valid_from" if table == "inventory_history" else "_synced_at"
        changes[table] = tuple(
            await connection.fetchrow(f"SELECT count(*), max({moment}) FROM tiktok.{table}")
        )
    return changes


@pytest.mark.parametrize("paging", ["offset", "keyset", "snapshot"])
async def test_the_copy_is_true_after_changes_while_it_was_read(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection, paging: Any
) -> None:
    simulator = await start_simulator(
        shops=2, orders_per_shop=3_000, flash_sale_orders=800, options=SimulatorOptions(paging=paging)
    )
    settings = make_settings(database_url, simulator, settle_s=0)
    async with connected_app(settings, simulator) as app:
        await simulator.simulation.mutator.set_rate(100)
        await sync_all(app)
        await simulator.simulation.mutator.set_rate(0)
        await wait_for_the_next_second()
        reports = await sync_all(app)
        assert [r.outcome for r in reports] == ["complete", "complete"]
        await assert_true(connection, simulator)
        before = await newest_changes(connection)
        await sync_all(app)
        assert await newest_changes(connection) == before


async def test_a_change_that_shows_late_is_found_by_the_second_look(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(options=SimulatorOptions(visibility_lag_s=2))
    settings = make_settings(database_url, simulator, settle_s=0, lookback_s=5)
    async with connected_app(settings, simulator) as app:
        await sync_all(app)
        for _ in range(40):
            simulator.simulation.mutations.mutate()
        await wait_for_the_next_second()
        await sync_all(app)  # The seconds of the changes are read before the changes show.
        assert await compare(connection, simulator.url, simulator.world.shops) != []
        await asyncio.sleep(2)  # This is the lag itself: the simulator's clock is the real one.
        await sync_all(app)
        await assert_true(connection, simulator)


async def test_a_second_look_survives_a_death_between_two_windows(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    """What was read too early stays to be read, even after a newer window was covered alone."""
    simulator = await start_simulator()
    settings = make_settings(database_url, simulator, settle_s=0, lookback_s=60)
    async with connected_app(settings, simulator) as app:
        await sync_all(app)
        settled_before = await connection.fetchval(
            "SELECT upper(settled) FROM sync.cursors WHERE stream = 'orders'"
        )
        until = await connection.fetchval("SELECT upper(covered) FROM sync.cursors WHERE stream = 'orders'")
        # As if a run had covered the newest window and died before the second look at the rest.
        await connection.execute(
            "UPDATE sync.cursors SET covered = covered + tstzmultirange(tstzrange($1, $2))"
            " WHERE stream = 'orders'",
            until,
            until + timedelta(hours=1),
        )
        (shop_id,) = simulator.world.shops
        gaps = await app.store.cursors.gaps(shop_id, "orders", Window(settings.history_start, until))
    assert gaps == [Window(settled_before, until)]


async def test_a_flash_sale_is_cut_down_to_its_seconds_and_is_complete(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=5_000, flash_sale_orders=4_500)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (report,) = await sync_all(app, streams=("orders",))
    assert report.outcome == "complete"
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 5_000
    assert report.streams["orders"].done == report.streams["orders"].expected == 5_000


async def test_more_products_than_one_search_shows_are_read_in_parts(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(products_per_shop=300, options=SimulatorOptions(product_cap=50))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (report,) = await sync_all(app)
    assert report.outcome == "complete"
    await assert_true(connection, simulator)


async def test_a_wrong_local_clock_covers_nothing_that_tiktok_has_not_reached(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    simulator.simulation.faults.add({"fault": "clock_skew", "seconds": -7200})
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (report,) = await sync_all(app)
        assert report.outcome == "complete"
    covered = await connection.fetchval("SELECT upper(covered) FROM sync.cursors WHERE stream = 'orders'")
    assert covered < datetime.now(UTC) - timedelta(seconds=7190)


async def test_pausing_a_shop_ends_its_sync_and_writes_nothing_more(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=4_000, options=SimulatorOptions(latency_s=0.05))
    shop_id = next(iter(simulator.world.shops))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        running = asyncio.create_task(sync_all(app, streams=("orders",)))
        while not await connection.fetchval("SELECT count(*) FROM tiktok.orders"):
            await asyncio.sleep(0.02)
        await app.store.shops.pause(shop_id)
        stored = await connection.fetchval("SELECT count(*) FROM tiktok.orders")
        (report,) = await running
        assert report.outcome == "stopped"
        assert 0 < stored < 4_000
        assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == stored


async def test_a_sync_whose_lease_connection_broke_takes_a_new_lease_and_ends_complete(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=4_000, options=SimulatorOptions(latency_s=0.05))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        running = asyncio.create_task(sync_all(app, streams=("orders",), wait_for_lease=True))
        while not await connection.fetchval("SELECT count(*) FROM tiktok.orders"):
            await asyncio.sleep(0.02)
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'shopsync leases' AND datname = current_database()"
        )
        assert ended == 1
        (report,) = await running
    assert (report.outcome, report.problems) == ("complete", [])
    # What the first lease had only counted is counted anew.
    progress = report.streams["orders"]
    assert progress.expected == progress.done
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 4_000
    assert await connection.fetchval("SELECT max(epoch) FROM sync.leases") == 2


async def test_a_record_that_cannot_be_stored_makes_the_run_incomplete_but_loses_no_neighbour(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    simulator.simulation.faults.add({"fault": "record_without_id", "path": "orders", "times": 1})
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (report,) = await sync_all(app, streams=("orders",))
    assert report.outcome == "incomplete"
    assert "sync.rejects" in report.problems[0]
    assert await connection.fetchval("SELECT count(*) FROM sync.rejects WHERE NOT stored") == 1
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") >= 299


async def test_a_stopped_run_goes_on_where_it_was(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=6_000, options=SimulatorOptions(latency_s=0.02))
    settings = make_settings(database_url, simulator)
    async with connected_app(settings, simulator) as app:
        running = asyncio.create_task(sync_all(app, streams=("orders",)))
        while await connection.fetchval("SELECT count(*) FROM tiktok.orders") < 1_500:
            await asyncio.sleep(0.02)
        await app.fleet.stop()
        (report,) = await running
        assert report.outcome == "stopped"
        first = report.tally.requests
    async with connected_app(settings, simulator) as app:
        (report,) = await sync_all(app, streams=("orders",))
    assert report.outcome == "complete"
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 6_000
    assert first + report.tally.requests < 6_000 / 100 * 2


async def test_history_is_read_while_newer_changes_come_first(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    """A long history does not make the newest orders wait for its end."""
    simulator = await start_simulator(
        orders_per_shop=6_000, history_days=300, options=SimulatorOptions(latency_s=0.03, limit_per_s=0)
    )
    settings = make_settings(
        database_url,
        simulator,
        settle_s=0,
        requests_per_second=15,
        intervals={"orders_s": 1, "products_s": 60, "inventory_s": 60, "warehouses_s": 60},
    )
    shop = next(iter(simulator.world.shops.values()))
    async with connected_app(settings, simulator) as app:
        running = asyncio.create_task(sync_all(app, streams=("orders",)))
        while not await connection.fetchval("SELECT count(*) FROM tiktok.orders"):
            await asyncio.sleep(0.02)
        known = {order["id"] for order in map(_decode, shop.orders.bodies())}
        while not simulator.simulation.mutations.place_order(shop):
            await asyncio.sleep(0)
        (new,) = {order["id"] for order in map(_decode, shop.orders.bodies())} - known
        while not await connection.fetchval("SELECT 1 FROM tiktok.orders WHERE order_id = $1", new):
            await asyncio.sleep(0.05)
        assert not running.done(), "the new order came only with the end of the history"
        assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") < 6_000
        await app.fleet.stop()
        await running


def _decode(body: bytes) -> Any:
    import msgspec

    return msgspec.json.decode(body)
