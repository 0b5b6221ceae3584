"""One process per shop at a time, and whoever was overtaken can write nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync.errors import FencedOutError
from sync.store.cursors import Cursors
from sync.store.leases import LeaseKeeper
from sync.store.pool import Database
from sync.store.runs import Runs
from sync.store.sink import Sink
from tests.integration.hazards import WAITS_FOR_A_LOCK, wait_until_true
from tests.integration.store_probe import ORDERS, SHOP, at, closing, hold, order, other_process, page

EXPIRE = "UPDATE sync.leases SET expires_at = now() - interval '1 second'"


@pytest.fixture
async def keeper(database_url: str) -> AsyncIterator[LeaseKeeper]:
    async with LeaseKeeper(database_url) as opened:
        yield opened


@pytest.fixture
async def sink(database_url: str) -> AsyncIterator[Sink]:
    async with Database(database_url, size=4) as database:
        yield Sink(database)


async def count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def test_a_shop_is_one_process_s_at_a_time(keeper: LeaseKeeper, database_url: str) -> None:
    async with other_process("own", database_url) as other:
        assert await other.hear() == "ready"
        assert await other.ask("take") == "1"
        assert await keeper.acquire(SHOP) is None
        assert await keeper.acquire("another shop") is not None


async def test_a_released_lease_is_free_at_once_and_its_epoch_grows(
    keeper: LeaseKeeper, database_url: str
) -> None:
    first = await hold(keeper)
    await keeper.release(first)
    with pytest.raises(FencedOutError):
        first.check()
    async with other_process("own", database_url) as other:
        assert await other.hear() == "ready"
        assert await other.ask("take") == str(first.epoch + 1)


async def test_a_lease_is_free_at_once_when_its_process_was_killed(
    keeper: LeaseKeeper, database_url: str, connection: asyncpg.Connection
) -> None:
    async with other_process("own", database_url) as other:
        assert await other.hear() == "ready"
        assert await other.ask("take") == "1"
        await other.kill()
    gone = (
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity AS a JOIN sync.leases AS l ON a.pid = l.session_pid)"
    )
    await wait_until_true(connection, gone)
    assert await connection.fetchval("SELECT expires_at > now() FROM sync.leases")
    lease = await hold(keeper)
    assert lease.epoch == 2
    assert lease.taken_over


async def test_a_lease_that_ran_out_is_free(
    keeper: LeaseKeeper, database_url: str, connection: asyncpg.Connection
) -> None:
    async with other_process("own", database_url) as other:
        assert await other.hear() == "ready"
        assert await other.ask("take") == "1"
        await connection.execute(EXPIRE)
        assert (await hold(keeper)).epoch == 2


async def test_a_process_that_was_paused_and_overtaken_writes_nothing(
    keeper: LeaseKeeper, sink: Sink, database_url: str, connection: asyncpg.Connection
) -> None:
    async with other_process("own", database_url) as other:
        assert await other.hear() == "ready"
        assert await other.ask("take") == "1"
        assert await other.ask("write early") == "1"
        other.signal(signal.SIGSTOP)
        await connection.execute(EXPIRE)
        lease = await hold(keeper)
        await sink.write(ORDERS, page([order("mine")]), lease=lease)
        other.signal(signal.SIGCONT)
        assert await other.ask("write late") == "FencedOutError"
    stored = [row[0] for row in await connection.fetch("SELECT order_id FROM tiktok.orders ORDER BY 1")]
    assert stored == ["early", "mine"]
    assert await count(connection, "sync.slices") == 1


async def test_an_owner_whose_lease_merely_ran_out_writes_nothing_either(
    keeper: LeaseKeeper, sink: Sink, connection: asyncpg.Connection
) -> None:
    lease = await hold(keeper)
    await connection.execute(EXPIRE)
    with pytest.raises(FencedOutError):
        await sink.write(ORDERS, page([order("1")]), lease=lease, closing=closing(0, 10))
    with pytest.raises(FencedOutError):
        lease.check()
    assert [await count(connection, t) for t in ("tiktok.orders", "sync.slices")] == [0, 0]


async def test_a_fenced_owner_sets_no_reject_aside_either(
    keeper: LeaseKeeper, sink: Sink, connection: asyncpg.Connection
) -> None:
    lease = await hold(keeper)
    await connection.execute(EXPIRE)
    with pytest.raises(FencedOutError):
        await sink.refuse(ORDERS, "1", lease=lease, reason="not ours to say")
    assert await count(connection, "sync.rejects") == 0


async def test_an_overtaken_owner_notes_nothing_about_the_shop(
    keeper: LeaseKeeper, database_url: str, connection: asyncpg.Connection
) -> None:
    async with Database(database_url, size=4) as database, LeaseKeeper(database_url) as slow:
        old = await hold(slow)
        cursors, runs = Cursors(database), Runs(database)
        await cursors.ensure(SHOP, ["orders", "inventory"])
        run_id = await runs.reserve(old)
        await connection.execute(EXPIRE)
        new = await hold(keeper)
        failure: dict[str, Any] = {"error": "no", "due_in_s": 5.0, "parked_reason": "scope"}
        await cursors.under(new).note_failure(SHOP, "orders", **failure)
        before = await connection.fetch("SELECT * FROM sync.cursors ORDER BY stream")
        overtaken = cursors.under(old)
        await overtaken.note_attempt(SHOP, "orders")
        assert await overtaken.note_success(SHOP, "orders", due_in_s=60) == 0
        await overtaken.note_failure(SHOP, "orders", **failure)
        with pytest.raises(FencedOutError):
            await overtaken.cover_whole(SHOP, "inventory", at(100))
        await runs.show(run_id, old, reason="due", age_s=11)
        assert await connection.fetch("SELECT * FROM sync.cursors ORDER BY stream") == before
        assert await count(connection, "sync.runs") == 0
        await cursors.under(new).cover_whole(SHOP, "inventory", at(100))
        await cursors.under(new).note_success(SHOP, "orders", due_in_s=60)
    rows = await connection.fetch("SELECT synced_until, parked_reason FROM sync.cursors ORDER BY stream")
    assert [tuple(row) for row in rows] == [(at(100), None), (None, None)]


async def test_an_overtaker_waits_for_the_page_that_is_being_written(
    keeper: LeaseKeeper, database_url: str, connection: asyncpg.Connection
) -> None:
    lease = await hold(keeper)
    writer = await asyncpg.connect(database_url)
    try:
        async with writer.transaction():
            held = "SELECT 1 FROM sync.leases WHERE shop_id = $1 AND epoch = $2 FOR SHARE"
            assert await writer.fetchval(held, SHOP, lease.epoch)
            # Its time is over as soon as anyone may see the row change.
            async with LeaseKeeper(database_url) as late:
                taking = asyncio.create_task(late.acquire(SHOP))
                done, _ = await asyncio.wait([taking], timeout=0.2)
                assert not done or taking.result() is None
                taking.cancel()
    finally:
        await writer.close()


async def test_a_lease_lives_as_long_as_its_process_renews_it(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.store.leases._RENEW_EVERY_S", 0.05)
    async with LeaseKeeper(database_url) as keeper:
        lease = await hold(keeper)
        good_until = lease.good_until
        await connection.execute("UPDATE sync.leases SET expires_at = now() + interval '3 seconds'")
        await wait_until_true(
            connection, "SELECT expires_at > now() + interval '20 seconds' FROM sync.leases"
        )
        lease.check()
        assert lease.good_until >= good_until
        assert lease.good_until > time.monotonic()


async def test_an_owner_hears_that_it_was_overtaken(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.store.leases._RENEW_EVERY_S", 0.05)
    async with LeaseKeeper(database_url) as slow:
        lease = await hold(slow)
        await connection.execute("UPDATE sync.leases SET expires_at = '-infinity', epoch = epoch + 1")
        await asyncio.wait_for(lease.lost.wait(), 10)
        with pytest.raises(FencedOutError):
            lease.check()


async def test_a_lease_is_lost_with_its_connection_and_can_be_taken_again(
    keeper: LeaseKeeper, connection: asyncpg.Connection
) -> None:
    """Others may take it from then on, so not one request more may leave under it."""
    lease = await hold(keeper)
    await connection.execute("SELECT pg_terminate_backend(session_pid) FROM sync.leases")
    await asyncio.wait_for(lease.lost.wait(), 10)
    with pytest.raises(FencedOutError):
        lease.check()
    again = await hold(keeper)
    again.check()
    assert again.epoch == lease.epoch + 1


async def test_requests_stop_before_the_lease_can_be_another_s(keeper: LeaseKeeper) -> None:
    before = time.monotonic()
    lease = await hold(keeper)
    assert lease.good_until <= before + 30 - 10 + 1
    lease.good_until = time.monotonic() - 0.001
    with pytest.raises(FencedOutError):
        lease.check()


async def test_a_keeper_that_ends_frees_its_shops(database_url: str, connection: asyncpg.Connection) -> None:
    async with LeaseKeeper(database_url) as keeper:
        await hold(keeper)
    async with LeaseKeeper(database_url) as other, asyncio.timeout(10):
        while await other.acquire(SHOP) is None:
            # Postgres notices the closed connection by itself, a moment later.
            await asyncio.sleep(0.01)


async def test_a_shop_whose_lease_is_locked_keeps_no_other_waiting(
    keeper: LeaseKeeper, database_url: str
) -> None:
    shops = [f"shop {n}" for n in range(12)]
    async with LeaseKeeper(database_url) as dead:
        for shop in shops:
            await hold(dead, shop)
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await writer.execute("UPDATE sync.leases SET expires_at = '-infinity'")
    async with writer.transaction():
        await writer.fetchval("SELECT 1 FROM sync.leases WHERE shop_id = 'shop 5' FOR KEY SHARE")
        late = asyncio.create_task(keeper.acquire("shop 5"))
        others = await asyncio.gather(*(keeper.acquire(shop) for shop in shops if shop != "shop 5"))
        assert None not in others
        assert not late.done()
    assert await late is not None
    await writer.close()


async def test_free_leases_that_are_locked_are_waited_for_without_another_connection(
    keeper: LeaseKeeper, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = [f"shop {n}" for n in range(40)]
    for lease in [await hold(keeper, shop) for shop in shops]:
        await keeper.release(lease)
    opened = 0
    connect = asyncpg.connect

    async def count_connect(*args: Any, **options: Any) -> asyncpg.Connection:
        nonlocal opened
        opened += 1
        return await connect(*args, **options)

    monkeypatch.setattr("asyncpg.connect", count_connect)
    async with connection.transaction():
        await connection.execute("SELECT FROM sync.leases FOR UPDATE")
        late = [asyncio.create_task(keeper.acquire(shop)) for shop in shops]
        # Answered after the others were: they go before it, or with it.
        await hold(keeper, "another shop")
        assert not any(task.done() for task in late)
    assert None not in await asyncio.gather(*late)
    assert opened == 0


async def test_a_lease_is_given_back_even_when_whoever_gives_it_is_cancelled(
    keeper: LeaseKeeper, database_url: str, connection: asyncpg.Connection
) -> None:
    slow, cancelled = await hold(keeper, "slow"), await hold(keeper)
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute("SELECT FROM sync.leases WHERE shop_id = 'slow' FOR UPDATE")
        first = asyncio.create_task(keeper.release(slow))
        await wait_until_true(connection, WAITS_FOR_A_LOCK)
        second = asyncio.create_task(keeper.release(cancelled))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    await first
    await locker.close()
    given_back = f"SELECT expires_at < now() FROM sync.leases WHERE shop_id = '{SHOP}'"
    await wait_until_true(connection, given_back)


async def test_what_was_learnt_of_a_shop_s_pace_goes_to_the_next_process(
    keeper: LeaseKeeper, database_url: str
) -> None:
    first = await hold(keeper)
    assert first.learned_rate is None
    first.learned_rate = 12.5
    await keeper.release(first)
    async with LeaseKeeper(database_url) as other:
        second = await hold(other)
        assert second.learned_rate == 12.5
        second.learned_rate = None
        await other.release(second)
    assert (await hold(keeper)).learned_rate is None


async def test_giving_a_lease_back_late_does_not_take_it_from_its_next_holder(
    keeper: LeaseKeeper, connection: asyncpg.Connection
) -> None:
    first = await hold(keeper)
    await hold(keeper)
    await keeper.release(first)
    assert await connection.fetchval("SELECT expires_at > now() FROM sync.leases")
