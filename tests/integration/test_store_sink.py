"""Writing pages: whole or not at all, once or twice, and one bad record costs one record."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncpg
import pytest

from sync.errors import DatabaseError
from sync.model import Record, Tally
from sync.store.leases import Lease, LeaseKeeper
from sync.store.pool import Database
from sync.store.runs import Runs
from sync.store.sink import Sink
from tests.integration.hazards import WAITS_FOR_A_LOCK
from tests.integration.store_probe import ORDERS, WAREHOUSES, at, closing, counts, hold, order, page

# Refused in every mode: the key does not fit into an index.
UNSTORABLE_ID = "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(4_000))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=4) as opened:
        yield opened


@pytest.fixture
async def sink(database: Database) -> Sink:
    return Sink(database)


@pytest.fixture
async def lease(database_url: str) -> AsyncIterator[Lease]:
    async with LeaseKeeper(database_url) as keeper:
        yield await hold(keeper)


async def ids(connection: asyncpg.Connection) -> list[str]:
    return [r[0] for r in await connection.fetch("SELECT order_id FROM tiktok.orders ORDER BY order_id")]


async def rejects(connection: asyncpg.Connection) -> dict[str, bool]:
    """Whether the row is stored nevertheless, by the id of each record that was set aside."""
    return dict(await connection.fetch("SELECT record_id, stored FROM sync.rejects ORDER BY record_id"))


async def test_a_page_that_comes_again_changes_nothing(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    rows = [order(str(n)) for n in range(10)]
    assert counts(await sink.write(ORDERS, page(rows), lease=lease)) == {"inserted": 10}
    before = await connection.fetch("SELECT order_id, xmin, _synced_at FROM tiktok.orders ORDER BY 1")
    again = page(reversed(rows), fetched=60)
    assert counts(await sink.write(ORDERS, again, lease=lease)) == {"unchanged": 10}
    assert await connection.fetch("SELECT order_id, xmin, _synced_at FROM tiktok.orders ORDER BY 1") == before


async def test_three_poisoned_records_of_a_hundred_are_found_and_the_rest_is_stored(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    rows: list[Any] = [order(f"{n:03}") for n in range(100)]
    rows[17] = order("017", payment={"currency": "GBP", "total_amount": "a lot"})
    rows[18] = Record(key="018", raw=b'{"id":"018","update_time":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    rows[99] = order(UNSTORABLE_ID)
    digest = "sha256:" + hashlib.sha256(json.dumps(rows[99]).encode()).hexdigest()
    tally = await sink.write(ORDERS, page(rows), lease=lease, closing=closing(0, 10))
    assert counts(tally) == {"inserted": 98, "rejected": 2}
    assert await rejects(connection) == {"017": True, "018": False, digest: False}
    assert await ids(connection) == sorted(f"{n:03}" for n in range(99) if n != 18)
    assert await connection.fetchval("SELECT count(*) FROM tiktok.order_line_items") == 98
    assert await connection.fetchval("SELECT rejected FROM sync.slices") == 2
    row = await connection.fetchrow("SELECT total_amount, _raw FROM tiktok.orders WHERE order_id = '017'")
    assert row["total_amount"] is None
    assert json.loads(row["_raw"])["payment"]["total_amount"] == "a lot"
    reason = await connection.fetchrow(
        "SELECT sqlstate, reason, raw FROM sync.rejects WHERE record_id = '018'"
    )
    assert reason["sqlstate"]
    assert reason["reason"]
    assert reason["raw"] == rows[18].raw


async def test_a_page_of_nothing_but_poison_ends_well(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    rows = [Record(key=str(n), raw=b'{"id":"%d",' % n) for n in range(9)]
    assert counts(await sink.write(ORDERS, page(rows), lease=lease)) == {"rejected": 9}
    assert len(await rejects(connection)) == 9
    assert await ids(connection) == []


async def test_a_record_without_an_id_is_set_aside_under_its_digest(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    nameless = Record(key=None, raw=b'{"status":"UNPAID"}')
    for _ in range(2):
        tally = await sink.write(ORDERS, page([nameless, order("1")]), lease=lease)
        assert tally.rejected == 1
    assert await ids(connection) == ["1"]
    (record_id,) = await rejects(connection)
    assert record_id.startswith("sha256:")
    assert await connection.fetchval("SELECT tries FROM sync.rejects") == 2


async def test_a_scrubbed_record_is_flagged_until_a_clean_version_comes(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    dirty = Record(key="1", raw=json.dumps(order("1", buyer_message="a\ufffdb")).encode(), scrubbed=True)
    await sink.write(ORDERS, page([dirty, order("2")]), lease=lease)
    flags = "SELECT order_id, _scrubbed FROM tiktok.orders ORDER BY 1"
    assert [tuple(r) for r in await connection.fetch(flags)] == [("1", True), ("2", False)]
    assert await rejects(connection) == {}
    await sink.write(ORDERS, page([order("1", updated=5)], fetched=9), lease=lease)
    assert [tuple(r) for r in await connection.fetch(flags)] == [("1", False), ("2", False)]


BAD: dict[str, Any] = {"payment": {"currency": "GBP", "total_amount": "a lot"}}


async def test_a_later_good_version_forgives_a_reject(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(ORDERS, page([order("1", **BAD), order("2", **BAD)]), lease=lease)
    assert await rejects(connection) == {"1": True, "2": True}
    await sink.write(ORDERS, page([order("1", updated=5)], fetched=9), lease=lease)
    assert await rejects(connection) == {"2": True}


async def test_a_reject_of_another_process_is_forgiven_too(
    database: Database, database_url: str, connection: asyncpg.Connection
) -> None:
    here, there = Sink(database), Sink(database)
    async with LeaseKeeper(database_url) as first:
        await here.write(ORDERS, page([order("1")]), lease=await hold(first))
    async with LeaseKeeper(database_url) as second:
        await there.write(ORDERS, page([order("1", updated=5, **BAD)], fetched=5), lease=await hold(second))
    assert await rejects(connection) == {"1": True}
    async with LeaseKeeper(database_url) as third:
        await here.write(ORDERS, page([order("1", updated=9)], fetched=9), lease=await hold(third))
    assert await rejects(connection) == {}


def warehouses(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": f"w{n}", "name": f"name {n}", **change} for n, change in enumerate(changes)]


async def live_warehouses(connection: asyncpg.Connection) -> list[str]:
    sql = "SELECT warehouse_id FROM tiktok.warehouses WHERE _deleted_at IS NULL ORDER BY 1"
    return [row[0] for row in await connection.fetch(sql)]


async def test_a_value_that_does_not_fit_costs_its_own_record_of_a_list_only(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    rows = warehouses({}, {"is_default": "perhaps"}, {})
    tally = await sink.write(WAREHOUSES, page(rows), lease=lease)
    assert counts(tally) == {"inserted": 3}
    assert await live_warehouses(connection) == ["w0", "w1", "w2"]
    assert await rejects(connection) == {"w1": True}


async def test_an_unstorable_record_of_a_list_costs_itself_only(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(WAREHOUSES, page(warehouses({}, {}, {})), lease=lease)
    rows: list[Any] = warehouses({"name": "new"}, {}, {})
    rows[1] = Record(key="w1", raw=b'{"id":"w1","name":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    tally = await sink.write(WAREHOUSES, page(rows, fetched=9), lease=lease)
    assert tally.rejected == 1
    assert {"w0", "w2"} <= set(await live_warehouses(connection))
    assert await connection.fetchval("SELECT name FROM tiktok.warehouses WHERE warehouse_id = 'w0'") == "new"
    assert await rejects(connection) == {"w1": False}


@pytest.mark.parametrize(
    "bad",
    [
        Record(key="w1", raw=b'{"id":"w1","name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        Record(key=None, raw=b'{"name":"name 1"}'),
    ],
    ids=["unstorable", "without an id"],
)
async def test_a_list_of_which_a_record_is_left_out_marks_nothing_as_deleted(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, bad: Record
) -> None:
    w0, w1, w2 = warehouses({}, {}, {})
    await sink.write(WAREHOUSES, page([w0, w1]), lease=lease)
    tally = await sink.write(WAREHOUSES, page([w0, bad, w2], fetched=9), lease=lease)
    assert counts(tally) == {"inserted": 1, "unchanged": 1, "rejected": 1}
    assert await live_warehouses(connection) == ["w0", "w1", "w2"]
    await sink.write(WAREHOUSES, page([w1, w2], fetched=19), lease=lease)
    assert await live_warehouses(connection) == ["w1", "w2"]


async def kill_writers(connection: asyncpg.Connection) -> int:
    """Ends the backends of the pool that wait or sleep in a transaction; how many there were."""
    sql = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'shopsync' AND datname = current_database() AND state <> 'idle'"
    )
    return int(await connection.fetchval(sql))


async def test_a_write_whose_connection_is_killed_in_the_middle_is_repeated_whole(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, database_url: str
) -> None:
    await sink.write(ORDERS, page([order("1")]), lease=lease)
    blocker = await asyncpg.connect(database_url)
    try:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("SELECT FROM tiktok.orders FOR UPDATE")
        rows = [order("0"), order("1", updated=5), order("2")]
        write = asyncio.create_task(
            sink.write(ORDERS, page(rows, fetched=5), lease=lease, closing=closing(0, 10))
        )
        killed = 0
        async with asyncio.timeout(20):
            while not killed:
                if await connection.fetchval(WAITS_FOR_A_LOCK):
                    killed = await kill_writers(connection)
                await asyncio.sleep(0.01)
        assert await ids(connection) == ["1"]
        await transaction.rollback()
        tally = await asyncio.wait_for(write, 20)
    finally:
        await blocker.close()
    assert counts(tally) == {"inserted": 2, "updated": 1}
    assert await ids(connection) == ["0", "1", "2"]
    assert await connection.fetchval("SELECT count(*) FROM sync.slices") == 1


async def test_a_write_whose_commit_was_not_heard_of_may_be_repeated(
    database: Database, sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    """The commit arrived and the connection broke: the same transaction is run once more."""
    attempts = 0

    async def commit_and_lose_the_connection(inner: asyncpg.Connection) -> Tally:
        nonlocal attempts
        attempts += 1
        tally = await sink.write(ORDERS, page([order("1")]), lease=lease, closing=closing(0, 10))
        if attempts == 1:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return tally

    tally = await database.transact(commit_and_lose_the_connection)
    assert attempts == 2
    assert counts(tally) == {"unchanged": 1}
    assert await ids(connection) == ["1"]
    covered = await connection.fetchval("SELECT count(*) FROM tiktok.order_line_items")
    assert covered == 1


async def test_a_database_that_stays_away_is_named_after_some_tries(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.store.pool._TRIES", 2)
    attempts = 0

    async def fail(_: asyncpg.Connection) -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionResetError

    with pytest.raises(DatabaseError, match="cannot be reached"):
        await database.transact(fail)
    assert attempts == 2


async def test_pages_that_overlap_are_written_at_once_without_a_deadlock(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    def shuffled(version: int) -> Iterable[dict[str, Any]]:
        rows = [order(f"{n:03}", updated=version) for n in range(60)]
        return rows if version % 2 else reversed(rows)

    writes = (sink.write(ORDERS, page(shuffled(v), fetched=v), lease=lease) for v in range(12))
    await asyncio.gather(*writes)
    newest = await connection.fetchval("SELECT min(update_time) FROM tiktok.orders")
    assert newest == at(11)


async def test_a_run_that_a_dead_process_left_open_is_closed_by_the_next(
    database: Database, lease: Lease, connection: asyncpg.Connection
) -> None:
    runs = Runs(database)
    first = await runs.begin(lease, reason="test")
    second = await runs.begin(lease, reason="test")
    await runs.end(second, outcome="complete", error=None, tally=Tally(fetched=3))
    rows = await connection.fetch("SELECT run_id, outcome, fetched FROM sync.runs ORDER BY run_id")
    assert [tuple(r) for r in rows] == [(first, "abandoned", 0), (second, "complete", 3)]
