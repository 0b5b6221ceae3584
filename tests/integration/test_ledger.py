"""By which read each version came, and how the ledger is kept from growing."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.simulator.server import RunningSimulator
from sync.store.hints import Heard
from sync.store.origins import Origin
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all
from tests.integration.notified import Teller
from tests.integration.verified import compare_orders, the_shop

pytest_plugins = ("tests.integration.verified_fixtures",)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(orders_per_shop=400, products_per_shop=10)


@pytest.fixture
def teller(app: App, simulator: RunningSimulator) -> Teller:
    none: Any = None
    return Teller("", simulator, none)


async def explain(app: App, kind: str, key: object) -> Origin:
    (origin,) = await app.store.origins.explain(kind, str(key), None)
    return origin


async def test_each_stored_version_names_the_slice_that_brought_it(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    for stream in ("orders", "products", "inventory", "warehouses"):
        unaccounted = await connection.fetchval(
            f"SELECT count(*) FROM tiktok.{stream} AS t LEFT JOIN sync.slices AS s"
            " ON s.slice_id = t._slice AND s.stream = $1 AND s.shop_id = t.shop_id"
            " WHERE s.slice_id IS NULL OR s.inserted + s.updated = 0",
            stream,
        )
        assert unaccounted == 0, stream
    inserted = await connection.fetch(
        "SELECT s.inserted, count(o.*) FROM sync.slices AS s"
        " LEFT JOIN tiktok.orders AS o ON o._slice = s.slice_id"
        " WHERE s.stream = 'orders' AND verdict <> 'cut' GROUP BY s.slice_id"
    )
    # What a cut slice has stored before is accounted for by the cut one.
    assert all(count <= rows for rows, count in inserted)


async def test_an_order_tells_of_its_slice_and_of_what_tiktok_counted(app: App, teller: Teller) -> None:
    await sync_all(app)
    order_id = teller.open_order()
    origin = await explain(app, "order", order_id)
    assert origin.read is not None
    assert origin.read.verdict == "clean"
    assert origin.read.reason == "test"
    assert origin.read.first_total == origin.read.last_total == origin.read.distinct_ids
    assert origin.stored.update_time is not None
    assert origin.read.since is not None
    assert origin.read.until is not None
    assert origin.read.since <= origin.stored.update_time < origin.read.until
    assert origin.troubles == ()
    assert origin.proven_at is None
    await compare_orders(app)
    assert (await explain(app, "order", order_id)).proven_at is not None


async def test_a_version_that_came_by_a_notification_says_so(app: App, teller: Teller) -> None:
    await sync_all(app)
    order_id = teller.open_order()
    before = await explain(app, "order", order_id)
    teller.advance(order_id)
    shop_id = await the_shop(app)
    await app.store.hints.hear(Heard("n1", shop_id, "default", None, (("orders", str(order_id)),)))
    waiting = await app.store.origins.troubles(None, "orders", str(order_id))
    assert ["notification" in trouble.trouble for trouble in waiting] == [True]
    await app.fleet.visit(shop_id)
    origin = await explain(app, "order", order_id)
    assert origin.read is not None
    assert before.read is not None
    assert (origin.read.verdict, origin.read.updated, origin.read.reason) == (
        "notification", 1, "notification",
    )  # fmt: skip
    assert origin.read.slice_id != before.read.slice_id


async def test_reads_out_of_turn_that_change_nothing_leave_no_row(
    app: App, teller: Teller, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    before = await connection.fetchval("SELECT count(*) FROM sync.slices")
    hints = tuple(("orders", str(number)) for number in list(teller.shop.orders.newest)[:60])
    shop_id = await the_shop(app)
    await app.store.hints.hear(Heard("n1", shop_id, "default", None, hints))
    await app.fleet.visit(shop_id)
    assert await connection.fetchval("SELECT count(*) FROM sync.hints") == 0
    assert await connection.fetchval("SELECT count(*) FROM sync.slices") == before


async def test_many_reads_out_of_turn_share_a_row(
    app: App, teller: Teller, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    shop_id = await the_shop(app)
    ids = [row.id for row in teller.shop.orders.newest.values() if row.status == "AWAITING_SHIPMENT"][:3]
    for order_id in ids:
        teller.advance(order_id)
    hints = tuple(("orders", str(order_id)) for order_id in ids)
    await app.store.hints.hear(Heard("n1", shop_id, "default", None, hints))
    await app.fleet.visit(shop_id)
    rows = await connection.fetch("SELECT updated FROM sync.slices WHERE verdict = 'notification'")
    assert [row["updated"] for row in rows] == [3]


async def test_a_repaired_order_says_that_a_comparison_missed_it(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    lost = await connection.fetchval(
        "DELETE FROM tiktok.orders WHERE order_id = (SELECT min(order_id) FROM tiktok.orders)"
        " RETURNING order_id"
    )
    await compare_orders(app, repairs=True)
    origin = await explain(app, "order", lost)
    assert origin.read is not None
    assert (origin.read.verdict, origin.read.reason) == ("repair", "verify")
    assert ["missing in a comparison" in trouble.trouble for trouble in origin.troubles] == [True]


async def test_a_sku_tells_of_its_product_and_of_its_stock(app: App, teller: Teller) -> None:
    await sync_all(app)
    product = next(p for p in teller.shop.products.values() if p.status == "ACTIVATE")
    origin = await explain(app, "sku", product.skus[0].id)
    assert origin.stored.parts == f"of product {product.id}"
    assert origin.read is not None
    assert origin.stock
    assert {one.read.verdict for one in origin.stock if one.read} == {"whole"}


async def test_old_slices_are_summed_up_by_day_and_versions_still_say_by_which_day_they_came(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    order_id = await connection.fetchval("SELECT min(order_id) FROM tiktok.orders")
    await connection.execute(
        "UPDATE sync.slices SET started_at = started_at - interval '40 days',"
        " finished_at = finished_at - interval '40 days';"
        "UPDATE sync.runs SET finished_at = finished_at - interval '40 days';"
        "UPDATE tiktok.orders SET _fetched_at = _fetched_at - interval '40 days'"
    )
    totals = (
        "SELECT sum(inserted), sum(updated), sum(unchanged), sum(requests), sum(walks), sum(polls)"
        " FROM sync.slices"
    )
    before = await connection.fetchrow(totals)
    rows = await connection.fetchval("SELECT count(*) FROM sync.slices")
    kept = await connection.fetchval(
        "SELECT count(*) FROM sync.cursors JOIN sync.slices ON slice_id = quiet_slice_id"
    )
    assert await app.store.runs.sum_up(days=30) >= rows - kept
    assert await connection.fetchrow(totals) == before
    summed = await connection.fetch(
        "SELECT stream, count(*) FROM sync.slices WHERE verdict = 'summed' GROUP BY 1"
    )
    assert all(row["count"] <= 2 for row in summed)
    assert await connection.fetchval("SELECT count(*) FROM sync.runs") == 0
    origin = await explain(app, "order", order_id)
    assert origin.read is not None
    assert origin.read.verdict == "summed"
    # Later ones of the same day join the row, and nothing is counted twice.
    await connection.execute("UPDATE sync.cursors SET settled = '{}', quiet_slice_id = NULL")
    await sync_all(app)
    assert await app.store.runs.sum_up(days=30) == kept


async def test_recent_slices_keep_their_rows(app: App, connection: asyncpg.Connection) -> None:
    await sync_all(app)
    before = await connection.fetch("SELECT * FROM sync.slices ORDER BY slice_id")
    assert await app.store.runs.sum_up(days=1) == 0
    assert await connection.fetch("SELECT * FROM sync.slices ORDER BY slice_id") == before


async def test_stock_is_never_valid_twice_at_one_moment(app: App, connection: asyncpg.Connection) -> None:
    await sync_all(app)
    for bounds in ("valid_from - interval '1 h', NULL", "valid_from + interval '1 h', NULL"):
        with pytest.raises((asyncpg.ExclusionViolationError, asyncpg.UniqueViolationError)):
            await connection.execute(
                "INSERT INTO tiktok.inventory_history (shop_id, sku_id, warehouse_id, valid_from, valid_to,"
                f" _fetched_at) SELECT shop_id, sku_id, warehouse_id, {bounds}, now()"
                " FROM tiktok.inventory_history LIMIT 1"
            )
    overlapping = "valid_from - interval '1 h', valid_from + interval '1 s'"
    with pytest.raises(asyncpg.ExclusionViolationError):
        await connection.execute(
            "INSERT INTO tiktok.inventory_history (shop_id, sku_id, warehouse_id, valid_from, valid_to,"
            f" _fetched_at) SELECT shop_id, sku_id, warehouse_id, {overlapping}, now()"
            " FROM tiktok.inventory_history LIMIT 1"
        )
    with pytest.raises(asyncpg.ExclusionViolationError):
        await connection.execute(
            "INSERT INTO tiktok.inventory_history (shop_id, sku_id, warehouse_id, valid_from, valid_to,"
            " _fetched_at) SELECT shop_id, sku_id, warehouse_id, valid_from - interval '2 h',"
            " valid_from - interval '1 h', now() FROM tiktok.inventory_history LIMIT 1;"
            "UPDATE tiktok.inventory_history SET valid_to = valid_to + interval '3 h'"
            " WHERE valid_to IS NOT NULL"
        )
