"""What a notification names is in Postgres moments later; what none names is found by the rounds."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.app import open_app
from sync.engine.fleet import new_report
from sync.engine.requests import SyncRequest
from sync.simulator import lifecycle
from sync.simulator.options import SimulatorOptions
from tests.conftest import StartSimulator
from tests.integration.notified import (
    Teller,
    differences,
    held,
    hints_left,
    is_zero,
    next_second,
    quiet_settings,
    settled,
    status_of,
    telling_daemon,
    until,
)
from tests.oracle import compare


async def test_a_paid_order_is_stored_as_soon_as_its_notification_came(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        order_id = teller.open_order()
        status = teller.advance(order_id)
        assert await status_of(connection, order_id) != status
        assert await teller.tell(1, {"order_id": str(order_id)}) == 200
        await until(lambda: status_of(connection, order_id), lambda stored: stored == status)
        await until(lambda: hints_left(connection), lambda left: left == 0)
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_detail_is_stored_like_the_search_would_show_it(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        before = await connection.fetch(
            "SELECT order_id, _raw, _digest, _synced_at FROM tiktok.orders ORDER BY 1"
        )
        ids = [str(order_id) for order_id in list(teller.shop.orders.newest)[:120]]
        runs = await connection.fetchval("SELECT count(*) FROM sync.runs")
        packages = [{"package_id": "1", "order_id_list": ids}]
        assert await teller.tell(4, {"package_list": packages}) == 200
        await until(lambda: hints_left(connection), lambda left: left == 0)
        await until(lambda: held(connection), lambda held: held == 0)
        after = await connection.fetch(
            "SELECT order_id, _raw, _digest, _synced_at FROM tiktok.orders ORDER BY 1"
        )
        assert after == before
        assert await connection.fetchval("SELECT count(*) FROM sync.runs") == runs
        paths = simulator.simulation.meter.of(teller.shop.shop_id).by_path
        assert paths["/order/202507/orders"] == 3


async def test_a_product_and_its_stock_are_stored_as_soon_as_their_notifications_came(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    mutations = simulator.simulation.mutations
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        await next_second()
        simulator.change_options(notify_url=f"{teller.url}/webhooks/tiktok", notify_duplicates=0.5)
        for kind in ("edit_product", "create_product", "change_skus", "delete_product", "move_stock"):
            assert mutations.make(kind, teller.shop)
        await until(lambda: differences(connection, teller), lambda found: found == [])
        await settled(connection)


async def test_a_withdrawn_consent_is_believed_when_the_api_says_so(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    state = "SELECT state FROM sync.shops"
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        assert await teller.tell(6, {"message": "is deauthorized from your APP by merchant."}) == 200
        await settled(connection)
        assert await connection.fetchval(state) == "active"
        (seller,) = simulator.simulation.accounts.consents
        simulator.simulation.accounts.revoke(seller)
        assert await teller.tell(6, {"message": "is deauthorized from your APP by merchant."}) == 200
        await until(lambda: connection.fetchval(state), lambda found: found == "needs_reauth")


async def test_an_id_that_tiktok_refuses_spoils_no_other(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(options=SimulatorOptions(unknown_detail_ids="refuse"))
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        ids = sorted(teller.shop.orders.newest)[-40:]
        for order_id in ids:
            teller.edit(order_id, buyer_message=f"note {order_id}")
        named = [*map(str, ids[:20]), "576000000000000001", *map(str, ids[20:])]
        assert await teller.tell(4, {"package_list": [{"order_id_list": named}]}) == 200
        await settled(connection)
        notes = await connection.fetch(
            "SELECT order_id FROM tiktok.orders WHERE buyer_message LIKE 'note %' ORDER BY 1"
        )
        assert [row["order_id"] for row in notes] == sorted(map(str, ids))


async def test_ids_that_are_all_refused_are_given_up_and_not_asked_for_ever(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync.store.hints._SECOND_TRY_S", 0.01)
    simulator = await start_simulator(options=SimulatorOptions(unknown_detail_ids="refuse"))
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        named = [str(n) for n in range(576000000000000000, 576000000000000050)]
        assert await teller.tell(4, {"package_list": [{"order_id_list": named}]}) == 200
        await settled(connection)
        asked = simulator.simulation.meter.of(teller.shop.shop_id).by_path["/order/202507/orders"]
        assert 50 < asked <= 100


async def test_a_missing_scope_parks_its_stream_and_costs_one_request(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        (consent,) = simulator.simulation.accounts.consents.values()
        consent.scopes -= {"seller.order.info"}
        for _ in range(3):
            assert await teller.tell(1, {"order_id": str(teller.open_order())}) == 200
            await settled(connection)
        parked = "SELECT stream FROM sync.cursors WHERE parked_reason IS NOT NULL"
        assert await connection.fetchval(parked) == "orders"
        paths = simulator.simulation.meter.of(teller.shop.shop_id).by_path
        assert paths["/order/202507/orders"] == 1


async def test_a_consent_that_cannot_be_looked_up_is_asked_for_once(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        (consent,) = simulator.simulation.accounts.consents.values()
        consent.scopes -= {"seller.authorization.info"}
        paths = simulator.simulation.meter.of(teller.shop.shop_id).by_path
        before = sum(paths.values())
        assert await teller.tell(7, {"message": "the authorization expires soon"}) == 200
        await settled(connection)
        assert sum(paths.values()) <= before + 1
        assert await connection.fetchval("SELECT state FROM sync.shops") == "active"


async def test_visits_that_wait_for_more_give_their_seats_to_shops_that_wait(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync.engine.hinted_reads._LINGER_S", 3600.0)
    simulator = await start_simulator(shops=3)
    settings = quiet_settings(database_url, simulator, parallel_shops=1)
    async with telling_daemon(settings, simulator) as teller:
        orders = {shop_id: min(shop.orders.newest) for shop_id, shop in simulator.world.shops.items()}
        for shop_id, order_id in orders.items():
            assert await teller.tell(1, {"order_id": str(order_id)}, shop_id=shop_id) == 200
        await settled(connection)


async def test_slow_answers_leave_room_for_as_many_calls_as_the_pace_allows(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with telling_daemon(quiet_settings(database_url, simulator), simulator) as teller:
        simulator.change_options(latency_s=3600.0)
        paths = simulator.simulation.meter.of(teller.shop.shop_id).by_path

        async def asked() -> int:
            return paths["/order/202507/orders"]

        for number, order_id in enumerate(list(teller.shop.orders.newest)[:15], start=1):
            assert await teller.tell(1, {"order_id": str(order_id)}) == 200
            await until(asked, number.__eq__)
        simulator.change_options(latency_s=0.0)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("visit of"):
                task.cancel()


async def test_hints_outlive_a_process_that_answered_and_read_nothing(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    settings = quiet_settings(database_url, simulator)
    async with telling_daemon(settings, simulator) as teller:
        order_id = teller.open_order()
        status = teller.advance(order_id)
        (shop_id,) = simulator.world.shops
        # Its answers do not come any more: the process ends between its own answer and the read.
        simulator.change_options(latency_s=3600.0)
        assert await teller.tell(1, {"order_id": str(order_id)}) == 200
        await until(lambda: held(connection), lambda held: held == 1)
        for task in asyncio.all_tasks():
            if task.get_name() == f"visit of {shop_id}":
                task.cancel()
        await until(lambda: held(connection), is_zero)
        simulator.change_options(latency_s=0.0)
        await connection.execute("UPDATE sync.hints SET due_at = now() + interval '1 s'")
    assert await hints_left(connection) == 1
    async with telling_daemon(settings, simulator):
        await until(lambda: status_of(connection, order_id), lambda stored: stored == status)


async def test_a_round_that_is_due_is_not_kept_waiting_by_a_visit_that_never_ends(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(options=SimulatorOptions(latency_s=0.1))
    settings = quiet_settings(database_url, simulator, parallel_shops=1)
    async with telling_daemon(settings, simulator) as teller:
        order_id = str(teller.open_order())
        rounds = "SELECT succeeded_at FROM sync.cursors WHERE stream = 'orders'"
        before = await connection.fetchval(rounds)
        telling = asyncio.create_task(_tell_on(teller, order_id))
        await until(lambda: held(connection), lambda held: held == 1)
        await connection.execute("UPDATE sync.cursors SET due_at = now() WHERE stream = 'orders'")
        await until(lambda: connection.fetchval(rounds), lambda at: at > before)
        assert not telling.done()
        telling.cancel()
        await settled(connection)


async def _tell_on(teller: Teller, order_id: str) -> None:
    while True:
        await teller.tell(3, {"order_id": order_id})
        await asyncio.sleep(0.02)


async def test_a_sync_that_runs_reads_what_is_hinted_at_beside_its_streams(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=2_000)
    settings = quiet_settings(database_url, simulator, parallel_slices=1)
    async with telling_daemon(settings, simulator) as teller:
        order_id = teller.open_order()
        status = teller.advance(order_id)
        (shop_id,) = simulator.world.shops
        await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}', due_at = now()")
        simulator.change_options(latency_s=1.0)
        await until(lambda: held(connection), lambda held: held == 1)
        assert await teller.tell(1, {"order_id": str(order_id)}) == 200
        await until(lambda: status_of(connection, order_id), lambda stored: stored == status)
        assert teller.app is not None
        assert shop_id in teller.app.fleet.running
        assert shop_id not in teller.app.fleet.visited
        simulator.change_options(latency_s=0.0)


async def test_a_process_that_holds_the_shop_reads_what_another_has_heard(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=2_000)
    settings = quiet_settings(database_url, simulator, parallel_slices=1)
    async with telling_daemon(settings, simulator) as teller:
        assert teller.app is not None
        (shop_id,) = simulator.world.shops
        order_id = teller.open_order()
        await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}'")
        status = teller.advance(order_id)
        async with open_app(settings) as other:
            simulator.change_options(latency_s=1.0)
            request = SyncRequest(shop_id, ("orders",), reason="backfill")
            backfill = asyncio.create_task(
                other.fleet.sync_all([request], reports=[new_report(request)], wait_for_lease=True)
            )
            await until(lambda: held(connection), lambda held: held == 1)
            assert await teller.tell(1, {"order_id": str(order_id)}) == 200
            await until(lambda: status_of(connection, order_id), lambda stored: stored == status)
            assert not backfill.done()
            assert shop_id not in teller.app.fleet.running
            simulator.change_options(latency_s=0.0)
            await backfill


async def test_a_visit_that_never_ends_gives_way_to_another_process_that_waits_for_the_shop(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(options=SimulatorOptions(latency_s=0.05))
    settings = quiet_settings(database_url, simulator)
    async with telling_daemon(settings, simulator) as teller:
        (shop_id,) = simulator.world.shops
        telling = asyncio.create_task(_tell_on(teller, str(teller.open_order())))
        await until(lambda: held(connection), lambda held: held == 1)
        async with open_app(settings) as other, asyncio.timeout(20):
            request = SyncRequest(shop_id, ("orders",), reason="backfill")
            report = await other.fleet.sync(request, wait_for_lease=True)
        assert report.outcome == "complete"
        assert not telling.done()
        telling.cancel()


async def test_a_stale_detail_never_overwrites_a_newer_order(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    settings = quiet_settings(database_url, simulator)
    async with telling_daemon(settings, simulator) as teller:
        order_id = teller.open_order("UNPAID", "ON_HOLD")
        old = teller.order(order_id)
        status = ""
        for _ in range(2):
            await next_second()
            status = teller.advance(order_id)
            assert await teller.tell(1, {"order_id": str(order_id)}) == 200
            await settled(connection)
        assert await status_of(connection, order_id) == status
        # The API's own replica lags: it shows the order as it was.
        teller.shop.orders.put(lifecycle.row_of(old))
        assert await teller.tell(1, {"order_id": str(order_id)}) == 200
        await settled(connection)
        assert await status_of(connection, order_id) == status
