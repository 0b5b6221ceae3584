"""Every fault of the API that a sync must survive: what it costs, and that nothing is lost by it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.simulator.server import RunningSimulator
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.oracle import compare
from tests.support import connected_app, make_settings

_SEARCH = "/orders/search"


async def sync_all(app: App) -> list[RunReport]:
    rows = await app.store.shops.list()
    reports = []
    for row in rows:
        if row.shop.state in ("active", "inactive"):
            request = SyncRequest(row.shop.shop_id, tuple(STREAMS), "test")
            reports.append(new_report(request))
            await app.fleet.sync(request, report=reports[-1])
    return reports


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(orders_per_shop=450, products_per_shop=30)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "rate_limited", "times": 2},
        {"fault": "rate_limited", "times": 2, "http": 200},
        {"fault": "rate_limited", "times": 2, "retry_after": 1},
        {"fault": "internal_error", "times": 2},
        {"fault": "unavailable_html", "times": 2},
        {"fault": "empty_body", "times": 2},
        {"fault": "empty_body", "times": 2, "http": 204},
        {"fault": "html_200", "times": 2},
        {"fault": "not_an_object", "times": 2},
        {"fault": "null_data", "times": 2},
        {"fault": "truncated_body", "times": 2},
        {"fault": "wrong_content_type"},
        {"fault": "reset_mid_body", "times": 2},
        {"fault": "slow", "times": 2, "seconds": 0.5},
        {"fault": "expired_token", "times": 1},
        {"fault": "expired_token", "times": 1, "http": 200},
        {"fault": "page_size_ignored"},
        {"fault": "lost_page_token", "times": 2},
        {"fault": "repeated_token", "times": 2},
        {"fault": "empty_page_with_token", "times": 2},
        {"fault": "null_list", "times": 2},
        {"fault": "duplicate_rows"},
        {"fault": "total_count_absent"},
        {"fault": "total_count_wrong"},
        {"fault": "total_count_wrong", "delta": -7},
        {"fault": "total_count_negative"},
    ],
    ids=lambda fault: "-".join(str(v) for k, v in fault.items() if k != "times"),
)
async def test_a_fault_that_passes_leaves_the_copy_true(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection, fault: dict[str, Any]
) -> None:
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        rule = simulator.simulation.faults.add({**fault, "path": _SEARCH})
        (during,) = await sync_all(app)
        assert during.outcome in ("complete", "incomplete"), during.problems
        assert rule.struck > 0
        if during.outcome == "complete":
            assert await compare(connection, simulator.url, simulator.world.shops) == []
        simulator.simulation.faults.remove()
        (after,) = await sync_all(app)
    assert (after.outcome, after.problems) == ("complete", [])
    assert await compare(connection, simulator.url, simulator.world.shops) == []


@pytest.mark.parametrize("name", ["null_data", "null_list"])
async def test_an_answer_that_makes_no_page_is_asked_for_again_at_once(
    simulator: RunningSimulator, database_url: str, name: str
) -> None:
    (shop_id,) = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        rule = simulator.simulation.faults.add({"fault": name, "times": 2, "path": "/orders/search"})
        report = await app.fleet.sync(SyncRequest(shop_id, ("orders",), "test"))
    assert rule.struck == 2
    assert (report.outcome, report.problems) == ("complete", [])


async def test_a_row_that_one_walk_does_not_show_is_found_by_the_next(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        rule = simulator.simulation.faults.add({"fault": "hidden_row", "times": 1, "path": _SEARCH})
        (during,) = await sync_all(app)
        assert rule.struck == 1
    assert during.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []


@pytest.mark.parametrize(
    "name",
    [
        "record_with_nul",
        "record_with_surrogate",
        "record_with_bad_utf8",
        "record_with_nan",
        "record_huge_number",
        "record_deeply_nested",
        "record_type_change",
        "record_without_id",
        "record_null_update_time",
    ],
)
@pytest.mark.parametrize("stream", ["orders", "products"])
async def test_a_bad_record_costs_at_most_itself(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection, name: str, stream: str
) -> None:
    (shop,) = simulator.world.shops.values()
    key = {"orders": "order_id", "products": "product_id"}[stream]
    keys = list(map(str, shop.orders.newest if stream == "orders" else shop.products))
    poisoned = keys[len(keys) // 2]
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        rule = simulator.simulation.faults.add({"fault": name, "id": poisoned, "path": f"/{stream}/search"})
        (during,) = await sync_all(app)
        assert rule.struck > 0
        assert during.outcome in ("complete", "incomplete"), during.problems
        stored = {row[0] for row in await connection.fetch(f"SELECT {key} FROM tiktok.{stream}")}
        rejected = await connection.fetch(
            "SELECT record_id, stored FROM sync.rejects WHERE stream = $1", stream
        )
        assert set(keys) - stored <= {poisoned}
        assert poisoned in stored or len(rejected) == 1
        simulator.simulation.faults.remove()
        # Read everything again: a record that is right by now takes the bad one's place.
        await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}'")
        (after,) = await sync_all(app)
    assert await compare(connection, simulator.url, simulator.world.shops) == []
    if name != "record_without_id":  # Without an id nothing tells that it came right.
        assert (after.outcome, after.problems) == ("complete", [])
        assert await connection.fetchval("SELECT count(*) FROM sync.rejects") == 0


async def test_a_missing_scope_parks_one_stream(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        simulator.simulation.faults.add({"fault": "scope_missing", "path": "/logistics/"})
        (during,) = await sync_all(app)
        assert during.outcome == "incomplete", during.problems
        assert [problem.split(":")[0] for problem in during.problems] == ["warehouses"]
        parked = await connection.fetch("SELECT stream FROM sync.cursors WHERE parked_reason IS NOT NULL")
        assert [row[0] for row in parked] == ["warehouses"]
        assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 450
        simulator.simulation.faults.remove()
        (after,) = await sync_all(app)
    assert after.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_an_inactive_shop_is_parked_alone_and_comes_back(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=2)
    asleep, awake = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        simulator.simulation.faults.add({"fault": "shop_inactive", "shop_id": asleep})
        await sync_all(app)
        states = {row.shop.shop_id: row.shop.state for row in await app.store.shops.list()}
        assert states == {asleep: "inactive", awake: "active"}
        assert await compare(connection, simulator.url, [awake]) == []
        simulator.simulation.faults.remove()
        await sync_all(app)
        states = {row.shop.shop_id: row.shop.state for row in await app.store.shops.list()}
    assert states == {asleep: "active", awake: "active"}
    assert await compare(connection, simulator.url, simulator.world.shops) == []
