"""The copy beside TikTok Shop's own counts: what is missing is found to the id, and mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.simulator.server import RunningSimulator
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all
from tests.integration.verified import compare_orders, compare_products, the_shop, verify
from tests.oracle import compare

pytest_plugins = ("tests.integration.verified_fixtures",)

_THREE = (
    "DELETE FROM tiktok.orders WHERE order_id IN"
    " (SELECT order_id FROM tiktok.orders ORDER BY md5(order_id) LIMIT 3) RETURNING order_id"
)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(orders_per_shop=3000, products_per_shop=40)


async def column(connection: asyncpg.Connection, sql: str, *values: object) -> list[Any]:
    return [row[0] for row in await connection.fetch(sql, *values)]


async def test_a_complete_copy_costs_a_handful_of_requests(app: App) -> None:
    await sync_all(app)
    report = await verify(app)
    assert [(p.stream, p.verdict) for p in report.proofs] == [(name, "complete") for name in STREAMS]
    orders = report.proofs[0]
    assert orders.api_rows == orders.stored_rows == 3000
    assert orders.requests <= 5


async def test_rows_deleted_by_hand_are_found_repaired_and_proven(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    deleted = sorted(await column(connection, _THREE))
    found = await compare_orders(app)
    assert found.verdict == "incomplete"
    assert sorted(key for f in found.findings for key in f.keys) == deleted
    assert {f.kind for f in found.findings} == {"missing"}
    mended = await compare_orders(app, repairs=True)
    assert mended.verdict == "repaired"
    assert sorted(key for f in mended.findings for key in f.keys) == deleted
    proven = await compare_orders(app)
    assert (proven.verdict, proven.findings, proven.stored_rows) == ("complete", [], 3000)
    assert await compare(connection, simulator.url, [await the_shop(app)]) == []


async def test_a_missing_order_is_found_within_the_seconds_that_hold_a_page(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    (lost,) = await column(connection, _THREE.replace("LIMIT 3", "LIMIT 1"))
    proof = await compare_orders(app)
    (finding,) = proof.findings
    assert finding.keys == (lost,)
    assert finding.window is not None
    assert finding.api_rows == (finding.stored_rows or 0) + 1 <= 100
    assert proof.requests <= 20


async def test_a_hole_too_large_to_be_named_is_filled(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    await connection.execute(
        "DELETE FROM tiktok.orders WHERE create_time < (SELECT percentile_disc(0.6) WITHIN GROUP (ORDER BY"
        " create_time) FROM tiktok.orders)"
    )
    found = await compare_orders(app)
    assert found.verdict == "incomplete"
    assert sum((f.api_rows or 0) - (f.stored_rows or 0) for f in found.findings) == 3000 - found.stored_rows
    assert (await compare_orders(app, repairs=True)).verdict == "repaired"
    assert await compare(connection, simulator.url, [await the_shop(app)]) == []


async def test_what_was_found_stands_until_it_is_found_no_more(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    await connection.execute(_THREE)
    await compare_orders(app)
    await compare_orders(app)
    asked = "SELECT kind, ended_by, count(*) FROM sync.findings GROUP BY 1, 2"
    assert [tuple(row) for row in await connection.fetch(asked)] == [("missing", None, 3)]
    view = "SELECT verdict, findings, missing_rows FROM bi.sync_completeness WHERE stream = 'orders'"
    assert [tuple(row) for row in await connection.fetch(view)] == [("incomplete", 3, 3)]
    status = [row for row in await app.store.status.read(list(STREAMS)) if row.stream == "orders"]
    assert [(row.verdict, row.findings) for row in status] == [("incomplete", 3)]
    await compare_orders(app, repairs=True)
    assert [tuple(row) for row in await connection.fetch(asked)] == [("missing", "repair", 3)]
    assert [tuple(row) for row in await connection.fetch(view)] == [("repaired", 0, 0)]


async def test_a_day_can_be_asked_for(app: App, connection: asyncpg.Connection) -> None:
    await sync_all(app)
    await connection.execute(_THREE.replace("LIMIT 3", "LIMIT 1"))
    await compare_orders(app)
    proven = await column(
        connection,
        "SELECT proven @> tstzrange(o.create_time, o.create_time, '[]')"
        " FROM bi.sync_completeness JOIN tiktok.orders AS o USING (shop_id) WHERE stream = 'orders'",
    )
    assert True in proven
    assert False in proven
    await compare_orders(app, repairs=True)
    day = datetime.now(UTC) - timedelta(days=20)
    assert await column(
        connection, "SELECT proven @> $1::timestamptz FROM bi.sync_completeness WHERE stream = 'orders'", day
    ) == [True]


async def test_only_the_days_asked_for_are_compared(app: App, connection: asyncpg.Connection) -> None:
    await sync_all(app)
    await connection.execute("DELETE FROM tiktok.orders WHERE create_time < now() - interval '30 days'")
    recent = datetime.now(UTC) - timedelta(days=29)
    assert (await compare_orders(app, since=recent)).verdict == "complete"
    assert (await compare_orders(app, until=recent)).verdict == "incomplete"


async def test_what_has_changed_since_the_last_round_is_not_missing(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    row = await connection.fetchrow(
        "DELETE FROM tiktok.orders WHERE order_id = (SELECT order_id FROM tiktok.orders"
        " ORDER BY update_time - create_time DESC LIMIT 1) RETURNING order_id, update_time"
    )
    assert row is not None
    found = []
    for read_until in (row["update_time"], row["update_time"] + timedelta(seconds=1)):
        await connection.execute("UPDATE sync.cursors SET synced_until = $1", read_until)
        proof = await compare_orders(app)
        found.append([key for finding in proof.findings for key in finding.keys])
    assert found == [[], [row["order_id"]]]


async def test_a_record_that_was_set_aside_is_named_with_the_reason(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    (lost,) = await column(connection, _THREE.replace("LIMIT 3", "LIMIT 1"))
    await connection.execute(
        "INSERT INTO sync.rejects (shop_id, stream, record_id, stored, reason, raw)"
        " VALUES ($1, 'orders', $2, false, 'no', '')",
        await the_shop(app),
        lost,
    )
    proof = await compare_orders(app, repairs=True)
    assert [(f.kind, f.keys) for f in proof.findings] == [("rejected", (lost,))]
    assert "sync.rejects" in proof.findings[0].reason
    assert proof.verdict == "incomplete"


async def test_nothing_is_compared_before_it_was_read(app: App) -> None:
    for proof in (await verify(app)).proofs:
        assert proof.verdict is None
        assert "backfill" in (proof.reason or "")


async def test_products_skus_and_warehouses_that_were_lost_come_back(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    await connection.execute(
        "DELETE FROM tiktok.products WHERE product_id IN (SELECT product_id FROM tiktok.products LIMIT 2);"
        "DELETE FROM tiktok.inventory WHERE product_id IN"
        " (SELECT product_id FROM tiktok.inventory ORDER BY product_id DESC LIMIT 1);"
        "DELETE FROM tiktok.warehouses WHERE warehouse_id = (SELECT min(warehouse_id) FROM tiktok.warehouses)"
    )
    found = {proof.stream: proof.verdict for proof in (await verify(app)).proofs}
    assert found == {
        "orders": "complete",
        "products": "incomplete",
        "inventory": "incomplete",
        "warehouses": "incomplete",
    }
    mended = {proof.stream: proof.verdict for proof in (await verify(app, repairs=True)).proofs}
    assert mended == found | {"products": "repaired", "inventory": "repaired", "warehouses": "repaired"}
    assert {proof.verdict for proof in (await verify(app)).proofs} == {"complete"}
    assert await compare(connection, simulator.url, [await the_shop(app)]) == []


@pytest.mark.parametrize("includes", [True, False])
async def test_deleted_products_are_compared_whether_or_not_all_means_them_too(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection, includes: bool
) -> None:
    simulator.change_options(all_includes_deleted=includes)
    await sync_all(app)
    gone = "SELECT product_id FROM tiktok.products WHERE status = 'DELETED' LIMIT 1"
    assert await column(connection, gone)
    assert (await compare_products(app)).verdict == "complete"
    await connection.execute(f"DELETE FROM tiktok.products WHERE product_id IN ({gone})")
    assert (await compare_products(app)).verdict == "incomplete"
    assert (await compare_products(app, repairs=True)).verdict == "repaired"
    assert (await compare_products(app)).verdict == "complete"
