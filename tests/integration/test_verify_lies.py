"""What a comparison says where TikTok Shop hides rows, counts wrongly, or has let products go."""

from __future__ import annotations

import asyncpg
import pytest

from sync.app import App
from sync.engine.comparison_io import ComparisonIO
from sync.simulator.server import RunningSimulator
from sync.simulator.shops import Shop
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all, wait_until_true
from tests.integration.verified import compare_orders, compare_products, the_shop, verify
from tests.oracle import compare

pytest_plugins = ("tests.integration.verified_fixtures",)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(orders_per_shop=1500, products_per_shop=40)


def shop_of(simulator: RunningSimulator) -> Shop:
    return next(iter(simulator.simulation.world.shops.values()))


async def test_an_order_that_is_counted_and_never_shown_is_named_to_the_second(
    app: App, simulator: RunningSimulator
) -> None:
    row = sorted(shop_of(simulator).orders.newest.values(), key=lambda row: row.create_time)[700]
    simulator.simulation.faults.add({"fault": "hidden_row", "id": str(row.id)})
    await sync_all(app)
    proof = await compare_orders(app, repairs=True)
    assert proof.verdict == "incomplete"
    (finding,) = proof.findings
    assert finding.kind == "hidden"
    assert finding.window is not None
    assert (finding.window.since.timestamp(), finding.window.seconds) == (row.create_time, 1)


async def test_an_order_that_is_stored_and_counted_is_not_missed_where_it_is_not_shown(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    rows = sorted(shop_of(simulator).orders.newest.values(), key=lambda row: row.create_time)
    simulator.simulation.faults.add({"fault": "hidden_row", "id": str(rows[700].id)})
    await connection.execute("DELETE FROM tiktok.orders WHERE order_id = $1", str(rows[701].id))
    proof = await compare_orders(app)
    assert [(f.kind, f.keys) for f in proof.findings] == [("missing", (str(rows[701].id),))]


@pytest.mark.parametrize("delta", [7, -7, 5000])
async def test_counts_that_cannot_all_be_true_are_reported_once(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection, delta: int
) -> None:
    await sync_all(app)
    simulator.simulation.faults.add({"fault": "total_count_wrong", "delta": delta, "path": "/orders/search"})
    proof = await compare_orders(app)
    assert proof.verdict in ("contradictory", "incomplete")
    assert proof.findings
    assert proof.stored_rows == 1500
    assert proof.requests < 100
    # What is compared ends at another moment each time.
    await connection.execute("UPDATE sync.cursors SET synced_until = synced_until - interval '2 seconds'")
    again = await compare_orders(app)
    open_ = "SELECT count(*) FROM sync.findings WHERE ended_at IS NULL"
    assert await connection.fetchval(open_) == len(again.findings)


async def test_counts_that_lie_now_and_then_do_not_pass_for_missing_rows(
    app: App, simulator: RunningSimulator
) -> None:
    await sync_all(app)
    simulator.simulation.faults.add(
        {"fault": "total_count_wrong", "delta": 3, "path": "/orders/search", "times": 1}
    )
    proof = await compare_orders(app)
    assert (proof.verdict, proof.findings) == ("complete", [])


@pytest.mark.parametrize("fault", ["total_count_absent", "total_count_negative"])
async def test_without_a_count_nothing_is_proven(app: App, simulator: RunningSimulator, fault: str) -> None:
    await sync_all(app)
    simulator.simulation.faults.add({"fault": fault, "path": "/orders/search"})
    proof = await compare_orders(app)
    assert (proof.verdict, proof.findings) == ("uncounted", [])


async def test_an_order_that_is_shown_no_more_stays_and_is_named(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    index = shop_of(simulator).orders
    gone = next(iter(index.newest))
    index.withdraw(gone)
    proof = await compare_orders(app, repairs=True)
    assert [(f.kind, f.keys, f.is_repaired) for f in proof.findings] == [("vanished", (str(gone),), False)]
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders WHERE order_id = $1", str(gone)) == 1


def on_sale(shop: Shop) -> int:
    """A product with stock."""
    return next(number for number, product in shop.products.items() if product.status == "ACTIVATE")


async def test_a_product_that_vanished_is_buried_with_its_skus_and_stock_and_comes_back_alive(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    shop = shop_of(simulator)
    product_id = on_sale(shop)
    row, product = shop.product_rows.withdraw(product_id), shop.products.pop(product_id)
    await sync_all(app)
    proof = await compare_products(app)
    assert [(f.kind, f.keys) for f in proof.findings] == [("vanished", (str(product_id),))]
    live = (
        "SELECT (SELECT count(*) FROM tiktok.products WHERE product_id = $1 AND _deleted_at IS NULL),"
        " (SELECT count(*) FROM tiktok.skus WHERE product_id = $1 AND _deleted_at IS NULL),"
        " (SELECT count(*) FROM tiktok.inventory WHERE product_id = $1 AND _deleted_at IS NULL),"
        " (SELECT count(*) FROM tiktok.inventory_history WHERE product_id = $1 AND valid_to IS NULL)"
    )
    before = tuple(await connection.fetchrow(live, str(product_id)))
    assert min(before) > 0
    assert (await compare_products(app, repairs=True)).verdict == "repaired"
    assert tuple(await connection.fetchrow(live, str(product_id))) == (0, 0, 0, 0)
    assert (await compare_products(app)).verdict == "complete"
    shop.products[product_id] = product
    shop.product_rows.put(row)
    assert [f.kind for f in (await compare_products(app, repairs=True)).findings] == ["missing"]
    await sync_all(app, streams=("inventory",))
    assert tuple(await connection.fetchrow(live, str(product_id))) == before
    assert await compare(connection, simulator.url, [await the_shop(app)]) == []


async def test_one_bad_answer_buries_nothing(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync_all(app)
    rows = shop_of(simulator).product_rows
    row = rows.withdraw(on_sale(shop_of(simulator)))

    async def recover(_: ComparisonIO) -> None:
        rows.put(row)

    monkeypatch.setattr(ComparisonIO, "wait_to_confirm", recover)
    proof = await compare_products(app, repairs=True)
    assert [(f.kind, f.is_repaired) for f in proof.findings] == [("vanished", False)]
    assert await compare(connection, simulator.url, [await the_shop(app)]) == []
    assert (await compare_products(app)).verdict == "complete"


async def test_a_complete_inventory_costs_nothing_and_vanished_stock_is_marked(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    (proof,) = (await verify(app, "inventory")).proofs
    assert (proof.verdict, proof.requests) == ("complete", 0)
    product_id = str(on_sale(shop_of(simulator)))
    # As if a bad hour of TikTok Shop's had left a SKU that never was.
    await connection.execute(
        "INSERT INTO tiktok.inventory (shop_id, sku_id, warehouse_id, product_id, _fetched_at)"
        " SELECT shop_id, 'ghost', warehouse_id, product_id, _fetched_at FROM tiktok.inventory"
        " WHERE product_id = $1 LIMIT 1",
        product_id,
    )
    (proof,) = (await verify(app, "inventory")).proofs
    assert [(f.kind, f.keys) for f in proof.findings] == [("vanished", ("ghost",))]
    (proof,) = (await verify(app, "inventory", repairs=True)).proofs
    assert proof.verdict == "repaired"
    await wait_until_true(
        connection, "SELECT _deleted_at IS NOT NULL FROM tiktok.inventory WHERE sku_id = 'ghost'"
    )
