"""Postgres refuses: collisions, time-outs, locks, a changed schema, rights that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync.errors import DatabaseError, DatabaseGoneError
from sync.store import pool
from sync.store.leases import Lease
from sync.store.pool import Database
from sync.store.sink import Sink
from tests.conftest import StartSimulator
from tests.integration.hazards import WAITS_FOR_A_LOCK, sync_all, wait_until_true
from tests.integration.store_probe import ORDERS, closing, counts, order, page
from tests.oracle import compare
from tests.support import connected_app, make_settings

_PATIENCE_S = 60


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=4) as opened:
        yield opened


@pytest.fixture
async def kept(connection: asyncpg.Connection) -> str:
    """A table with two rows of number 0; what it holds is asked for by this statement."""
    await connection.execute(
        "CREATE TABLE public.kept (id int PRIMARY KEY, n int NOT NULL);"
        "INSERT INTO public.kept VALUES (1, 0), (2, 0)"
    )
    return "SELECT n FROM public.kept ORDER BY id"


async def test_transactions_that_lock_each_other_out_are_all_done(
    database: Database, connection: asyncpg.Connection, kept: str
) -> None:
    attempts = 0
    both_hold_one = asyncio.Barrier(2)

    async def add(first: int, second: int) -> None:
        async def work(opened: asyncpg.Connection) -> None:
            nonlocal attempts
            attempts += 1
            await opened.execute("UPDATE public.kept SET n = n + 1 WHERE id = $1", first)
            if attempts <= 2:
                await both_hold_one.wait()
            await opened.execute("UPDATE public.kept SET n = n + 1 WHERE id = $1", second)

        await database.transact(work)

    await asyncio.wait_for(asyncio.gather(add(1, 2), add(2, 1)), _PATIENCE_S)
    assert attempts == 3
    assert [row["n"] for row in await connection.fetch(kept)] == [2, 2]


async def test_a_transaction_that_cannot_be_put_in_a_row_with_another_is_run_again(
    database: Database, connection: asyncpg.Connection, kept: str
) -> None:
    attempts = 0

    async def work(opened: asyncpg.Connection) -> None:
        nonlocal attempts
        attempts += 1
        await opened.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await opened.fetch(kept)
        if attempts == 1:
            await connection.execute("UPDATE public.kept SET n = 5")
        await opened.execute("UPDATE public.kept SET n = n + 1")

    await asyncio.wait_for(database.transact(work), _PATIENCE_S)
    assert attempts == 2
    assert [row["n"] for row in await connection.fetch(kept)] == [6, 6]


async def test_a_session_that_was_ended_because_it_idled_is_replaced(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SESSION, "idle_in_transaction_session_timeout", "50ms")
    attempts = 0

    async def work(opened: asyncpg.Connection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            pid = await opened.fetchval("SELECT pg_backend_pid()")
            gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
            await wait_until_true(connection, gone, pid)
        return int(await opened.fetchval("SELECT 1"))

    async with Database(database_url, size=1) as database:
        assert await asyncio.wait_for(database.transact(work), _PATIENCE_S) == 1
    assert attempts == 2


async def test_a_statement_that_was_prepared_for_another_table_is_prepared_anew(
    database: Database, connection: asyncpg.Connection, kept: str
) -> None:
    async def work(opened: asyncpg.Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await opened.fetch("SELECT * FROM public.kept ORDER BY id")]

    one = Database(database.url, size=1)
    async with one:
        assert await one.transact(work) == [(1, 0), (2, 0)]
        await connection.execute("ALTER TABLE public.kept ADD COLUMN more text")
        assert await asyncio.wait_for(one.transact(work), _PATIENCE_S) == [(1, 0, None), (2, 0, None)]


async def test_a_pool_of_one_serves_many_in_turn_and_tells_whoever_waits_too_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(database_url, size=1) as database:
        answers = await asyncio.gather(*(database.value("ping") for _ in range(100)))
        assert set(answers) == {1}
        monkeypatch.setattr(pool, "_ACQUIRE_TIMEOUT_S", 0.2)
        async with database.connection():
            with pytest.raises(DatabaseGoneError):
                await asyncio.wait_for(database.value("ping"), _PATIENCE_S)
        # Nothing leaked: whoever gave up took no connection along.
        assert await database.value("ping") == 1


async def test_a_page_that_takes_too_long_is_stored_in_parts_and_none_of_it_is_refused(
    database_url: str, lease: Lease, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SESSION, "statement_timeout", "600ms")
    await _slow_down(connection, "0.1")
    async with Database(database_url, size=1) as database:
        rows = [order(str(n)) for n in range(8)]
        tally = await Sink(database).write(ORDERS, page(rows), lease=lease, closing=closing(0, 10))
    assert counts(tally) == {"inserted": 8}
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 8
    assert await connection.fetchval("SELECT count(*) FROM sync.rejects") == 0


async def test_a_record_that_takes_too_long_by_itself_is_an_error_and_no_reject(
    database_url: str, lease: Lease, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SESSION, "statement_timeout", "200ms")
    await _slow_down(connection, "60")
    async with Database(database_url, size=1) as database:
        with pytest.raises(DatabaseError, match="statement timeout"):
            await Sink(database).write(ORDERS, page([order("1"), order("2")]), lease=lease)
    assert await connection.fetchval("SELECT count(*) FROM sync.rejects") == 0


async def _slow_down(connection: asyncpg.Connection, seconds: str) -> None:
    """Storing an order takes that long."""
    await connection.execute(
        f"CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;"
        " CREATE TRIGGER dawdle BEFORE INSERT ON tiktok.orders FOR EACH ROW EXECUTE FUNCTION public.dawdle()"
    )


async def test_a_table_that_somebody_keeps_locked_costs_its_stream_and_no_other(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(pool._SESSION, "lock_timeout", "200ms")
    monkeypatch.setattr(pool, "_TRIES", 2)
    simulator = await start_simulator(shops=2, orders_per_shop=30)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        locker = await asyncpg.connect(database_url)
        try:
            await locker.execute("BEGIN; LOCK TABLE tiktok.orders IN ACCESS EXCLUSIVE MODE")
            during = await asyncio.wait_for(sync_all(app), _PATIENCE_S)
        finally:
            await locker.close()
        after = await sync_all(app)
    assert [report.outcome for report in during] == ["incomplete", "incomplete"]
    assert all(["lock timeout" in problem for problem in report.problems] == [True] for report in during)
    assert [report.outcome for report in after] == ["complete", "complete"]
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_short_lock_is_waited_out(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(pool._SESSION, "lock_timeout", "100ms")
    simulator = await start_simulator(orders_per_shop=30)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        locker = await asyncpg.connect(database_url)
        await locker.execute("BEGIN; ALTER TABLE tiktok.orders ADD COLUMN public_note text")
        running = asyncio.create_task(sync_all(app))
        await wait_until_true(connection, WAITS_FOR_A_LOCK)
        await locker.close()
        (report,) = await asyncio.wait_for(running, _PATIENCE_S)
    assert report.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_key_that_was_dropped_costs_its_stream_until_it_is_there_again(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=30)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        await sync_all(app)
        await connection.execute("ALTER TABLE tiktok.orders DROP CONSTRAINT orders_pkey")
        await connection.execute(
            "DELETE FROM tiktok.orders; UPDATE sync.cursors SET covered = '{}', settled = '{}'"
        )
        (during,) = await sync_all(app)
        state = await connection.fetchrow(
            "SELECT failures, last_error, due_at > now() AS waits FROM sync.cursors WHERE stream = 'orders'"
        )
        await connection.execute("ALTER TABLE tiktok.orders ADD PRIMARY KEY (shop_id, order_id)")
        (after,) = await sync_all(app)
    assert during.outcome == "incomplete"
    assert ["ON CONFLICT" in problem for problem in during.problems] == [True]
    assert (state["failures"], state["waits"]) == (1, True)
    assert "ON CONFLICT" in state["last_error"]
    assert after.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []
