"""Hazards of reading one shop: rows that hide, wrong clocks, slow answers, stock of what is gone."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from sync.app import open_app
from sync.engine.requests import RunReport
from sync.engine.stream_sync import StreamSync
from sync.model import Page, Record
from sync.simulator.options import SimulatorOptions
from sync.store.leases import LeaseKeeper
from sync.store.page_writer import Target
from sync.store.pool import Database
from sync.store.sink import Sink
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all
from tests.integration.store_probe import at, hold
from tests.oracle import compare
from tests.support import connected_app, make_settings

_SEARCH = "/orders/search"
_SECONDS = {"orders_s": 1, "products_s": 1, "inventory_s": 1, "warehouses_s": 1}
_COVERED_PAST = (
    "SELECT count(*) = 2 FROM sync.cursors WHERE stream IN ('orders', 'products') AND upper(covered) > $1"
)
_PRODUCTS = Target(stream="products", statement="store_products")
_STOCK = Target(stream="inventory", statement="store_inventory")


async def test_an_order_that_never_shows_is_named_and_costs_no_other_order(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    (shop,) = simulator.world.shops.values()
    orders = [msgspec.json.decode(body) for body in shop.orders.bodies()]
    hidden = orders[len(orders) // 2]
    moment = datetime.fromtimestamp(hidden["update_time"], UTC)
    mates = sum(order["update_time"] == hidden["update_time"] for order in orders)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        simulator.simulation.faults.add({"fault": "hidden_row", "id": hidden["id"], "path": _SEARCH})
        (during,) = await sync_all(app, streams=("orders",))
        stored = {row[0] for row in await connection.fetch("SELECT order_id FROM tiktok.orders")}
        settled = await connection.fetchrow(
            "SELECT settled @> $1::timestamptz, settled @> $2::timestamptz, settled @> $3::timestamptz"
            "  FROM sync.cursors WHERE stream = 'orders'",
            *(moment + timedelta(seconds=s) for s in (0, -1, 1)),
        )
        simulator.simulation.faults.remove()
        (after,) = await sync_all(app)
    assert {order["id"] for order in orders} - stored == {hidden["id"]}
    assert during.outcome == "incomplete"
    assert [f"counts {mates} and shows {mates - 1}" in problem for problem in during.problems] == [True]
    assert f"[{moment:%Y-%m-%d %H:%M:%S}, " in during.problems[0]
    assert tuple(settled) == (False, True, True)
    assert (after.outcome, after.problems) == ("complete", [])
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_counts_that_are_always_too_high_end_in_a_bounded_number_of_requests(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(options=SimulatorOptions(limit_per_s=0))
    settings = make_settings(database_url, simulator, requests_per_second=1000)
    async with connected_app(settings, simulator) as app:
        simulator.simulation.faults.add({"fault": "total_count_wrong", "path": _SEARCH})
        (report,) = await asyncio.wait_for(sync_all(app, streams=("orders",)), 40)
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 300
    assert report.outcome == "incomplete"
    # 200 windows may be cut in two; each of these 401 is walked twice, and some have three pages.
    assert report.tally.requests < 2 * 401 * 1.2


async def test_a_first_date_header_an_hour_ahead_loses_nothing(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    settings = make_settings(database_url, simulator, settle_s=0, lookback_s=5)
    async with connected_app(settings, simulator):
        pass
    async with open_app(settings) as app:
        # What the Date of the very first answer does when it is wrong; no later one agrees with it.
        sent = time.monotonic()
        app.apps.get("default").client.clock.learn(
            datetime.now(UTC) + timedelta(hours=1), sent=sent, received=sent
        )
        await sync_all(app)
        ahead = "SELECT count(*) FROM sync.cursors WHERE upper(covered) > now() + interval '3 seconds'"
        assert await connection.fetchval(ahead) == 0
        for _ in range(40):
            simulator.simulation.mutations.mutate()
        moment = datetime.now(UTC)
        async with asyncio.timeout(10):
            while not await connection.fetchval(_COVERED_PAST, moment):
                (report,) = await sync_all(app)
                await asyncio.sleep(0.2)  # Rounds as a daemon makes them; each sees a little more.
    assert (report.outcome, report.problems) == ("complete", [])
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_an_end_in_the_past_does_not_make_a_long_answer_a_busy_wait(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = await start_simulator(orders_per_shop=50)
    simulator.simulation.faults.add({"fault": "slow", "seconds": 1.6, "path": _SEARCH})
    waits = 0
    wait = StreamSync._wait

    async def count(self: StreamSync, event: asyncio.Event, *, until: float | None, **room: Any) -> None:
        nonlocal waits
        waits += 1
        await wait(self, event, until=until, **room)

    monkeypatch.setattr(StreamSync, "_wait", count)
    settings = make_settings(database_url, simulator, intervals=_SECONDS)
    async with connected_app(settings, simulator) as app:
        until = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
        (report,) = await sync_all(app, streams=("orders",), until=until)
    assert report.outcome == "complete"
    assert 0 < waits < 20


async def test_a_sweep_that_takes_longer_than_its_interval_ends(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(products_per_shop=300, orders_per_shop=1)
    settings = make_settings(database_url, simulator, intervals=_SECONDS, parallel_slices=1)
    async with connected_app(settings, simulator) as app:
        await sync_all(app, streams=("products",))
        rule = simulator.simulation.faults.add({"fault": "slow", "seconds": 0.6, "path": "/inventory/search"})
        (report,) = await asyncio.wait_for(sync_all(app, streams=("inventory",)), 10)
    assert (report.outcome, rule.struck) == ("complete", 3)


async def test_stock_that_was_asked_for_before_its_product_was_deleted_stays_deleted(
    database_url: str, connection: asyncpg.Connection
) -> None:
    stock = {"warehouse_id": "w", "available_quantity": 5, "committed_quantity": 0}
    answer = {"product_id": "1", "skus": [{"id": "11", "warehouse_inventory": [stock]}]}

    def product(status: str, *, updated: int) -> dict[str, Any]:
        moment = int(at(updated).timestamp())
        return {"id": "1", "status": status, "update_time": moment, "skus": [{"id": "11"}]}

    def page(record: dict[str, Any], *, fetched: int) -> Page:
        return Page((Record("1", json.dumps(record).encode()),), None, 1, at(fetched))

    async with Database(database_url, size=2) as database, LeaseKeeper(database_url) as keeper:
        lease, sink = await hold(keeper), Sink(database)
        await sink.write(_PRODUCTS, page(product("ACTIVATE", updated=0), fetched=1), lease=lease)
        await sink.write(_STOCK, page(answer, fetched=2), lease=lease)
        await sink.write(_PRODUCTS, page(product("DELETED", updated=6), fetched=7), lease=lease)
        await sink.write(_STOCK, page(answer, fetched=5), lease=lease)
        await sink.write(_STOCK, page(answer, fetched=8), lease=lease)
    live = "SELECT count(*) FROM tiktok.inventory WHERE _deleted_at IS NULL"
    assert await connection.fetchval(live) == 0
    assert await connection.fetchval("SELECT count(*) FROM tiktok.inventory") == 1
    is_open = "SELECT count(*) FROM tiktok.inventory_history WHERE valid_to IS NULL"
    assert await connection.fetchval(is_open) == 0


async def _read_stock_without(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection, *, times: int | None
) -> tuple[RunReport, int, set[str]]:
    """The report, how many inventory calls there were, and which of 20 products have no stock stored."""
    simulator = await start_simulator(orders_per_shop=1)
    (shop,) = simulator.world.shops.values()
    left_out = str(sorted(shop.products)[7])
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        fault = {"fault": "hidden_row", "id": left_out, "path": "/inventory/search", "times": times}
        simulator.simulation.faults.add(fault)
        calls = simulator.simulation.faults.add(
            {"fault": "slow", "seconds": 0.0, "path": "/inventory/search"}
        )
        (report,) = await sync_all(app, streams=("products", "inventory"))
    rows = await connection.fetch("SELECT DISTINCT product_id FROM tiktok.inventory")
    listed = await connection.fetch("SELECT product_id FROM tiktok.products WHERE _deleted_at IS NULL")
    missing = {row[0] for row in listed} - {row[0] for row in rows}
    assert missing <= {left_out}
    return report, calls.struck, missing


async def test_products_that_a_stock_answer_left_out_are_asked_for_once_more(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    report, calls, missing = await _read_stock_without(start_simulator, database_url, connection, times=1)
    assert (report.outcome, calls, missing) == ("complete", 2, set())


async def test_a_product_without_stock_is_not_asked_for_a_third_time(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    report, calls, missing = await _read_stock_without(start_simulator, database_url, connection, times=None)
    assert (report.outcome, calls, len(missing)) == ("complete", 2, 1)
