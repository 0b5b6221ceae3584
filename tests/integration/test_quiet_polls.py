"""Polls that find nothing new: they are accounted for, and leave nothing behind. On real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from sync.errors import FencedOutError
from sync.model import Batch, Tally
from sync.store.cursors import Cursors
from sync.store.leases import Lease, LeaseKeeper
from sync.store.ledger import Closing, EmptyClosings
from sync.store.pool import Database
from sync.store.runs import Runs
from sync.store.sink import Sink
from sync.store.status import Status
from tests.integration.store_probe import ORDERS, SHOP, at, closing, hold, order, page, window


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=4) as opened:
        await Cursors(opened).ensure(SHOP, ["orders", "inventory"])
        yield opened


@pytest.fixture
async def keeper(database_url: str) -> AsyncIterator[LeaseKeeper]:
    async with LeaseKeeper(database_url) as opened:
        yield opened


@pytest.fixture
async def lease(keeper: LeaseKeeper) -> Lease:
    return await hold(keeper)


@pytest.fixture
def sink(database: Database) -> Sink:
    return Sink(database)


async def ledger(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT * FROM sync.slices ORDER BY slice_id"))


async def poll(sink: Sink, lease: Lease, since: int, until: int, **changes: Any) -> None:
    quiet = closing(since, until, tally=Tally(requests=1), **changes)
    await sink.write(ORDERS, None, lease=lease, closing=quiet)


async def test_quiet_polls_of_a_day_share_one_row_that_accounts_for_each(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    for minute in range(30):
        await poll(sink, lease, 60 * minute, 60 * minute + 360, first_total=0, last_total=0)
    (row,) = await ledger(connection)
    reaches = (row["since"], row["until"])
    assert reaches == (window(0, 1).since, window(0, 60 * 29 + 360).until)
    assert (row["polls"], row["requests"], row["walks"], row["run_id"]) == (30, 30, 30, None)


async def test_a_poll_that_stored_something_has_a_row_of_its_own_and_so_has_what_follows(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await poll(sink, lease, 0, 60)
    await sink.write(ORDERS, page([order("1")]), lease=lease, closing=closing(60, 120, run_id=5))
    await poll(sink, lease, 120, 180)
    await poll(sink, lease, 150, 240)
    rows = await ledger(connection)
    assert [(r["run_id"], r["inserted"], r["polls"]) for r in rows] == [(None, 0, 1), (5, 1, 1), (None, 0, 2)]


@pytest.mark.parametrize(
    ("second", "changes"),
    [((400, 500), {}), ((0, 50), {}), ((60, 120), {"verdict": "stable"}), ((60, 120), {"verdict": "cut"})],
    ids=["a gap between", "further back", "another verdict", "cut"],
)
async def test_only_the_quiet_neighbour_right_after_it_prolongs_a_row(
    sink: Sink,
    lease: Lease,
    connection: asyncpg.Connection,
    second: tuple[int, int],
    changes: dict[str, Any],
) -> None:
    await poll(sink, lease, 0, 100)
    await poll(sink, lease, *second, **changes)
    assert [row["polls"] for row in await ledger(connection)] == [1, 1]


async def test_a_cut_slice_is_not_covered_and_keeps_its_run(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, database: Database
) -> None:
    await poll(sink, lease, 0, 100, verdict="cut", covers=False, run_id=9)
    (row,) = await ledger(connection)
    assert (row["verdict"], row["run_id"]) == ("cut", 9)
    assert await Cursors(database).uncovered(SHOP, "orders", window(0, 100)) == [window(0, 100)]


async def test_quiet_sweeps_of_a_stock_share_a_row_too(
    database: Database, lease: Lease, connection: asyncpg.Connection
) -> None:
    empty = EmptyClosings(database)
    for keys in (("1", "2"), ("3",), ("1", "2")):
        end = closing(0, 1, slice_=Batch(keys), verdict="whole", tally=Tally(requests=1))
        await empty.close(lease, "inventory", end)
    (row,) = await ledger(connection)
    assert (row["polls"], row["keys"], row["requests"], row["until"]) == (3, 5, 3, None)


async def test_prolonging_a_row_touches_no_index(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    for minute in range(20):
        await poll(sink, lease, 60 * minute, 60 * minute + 360)
    async with asyncio.timeout(20):
        while True:
            updates = (
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE schemaname = 'sync' AND relname = 'slices'"
            )
            every, hot = await connection.fetchrow(updates)
            if every == 19:
                break
            await asyncio.sleep(0.05)  # Statistics come when the backend has nothing else to do.
    assert hot == every


async def test_slices_of_many_shops_are_closed_together_and_only_under_their_leases(
    database: Database, keeper: LeaseKeeper, connection: asyncpg.Connection
) -> None:
    names = [f"shop {n}" for n in range(20)]
    cursors = Cursors(database)
    for name in names:
        await cursors.ensure(name, ["orders"])
    leases = [await hold(keeper, name) for name in names]
    await connection.execute("UPDATE sync.leases SET epoch = epoch + 1 WHERE shop_id = 'shop 7'")
    empty = EmptyClosings(database)
    ends = await asyncio.gather(
        *(empty.close(lease, "orders", closing(0, 10)) for lease in leases), return_exceptions=True
    )
    assert [type(end) for end in ends if end is not None] == [FencedOutError]
    assert isinstance(ends[7], FencedOutError)
    assert leases[7].lost.is_set()
    closed = {row["shop_id"] for row in await ledger(connection)}
    assert closed == set(names) - {"shop 7"}
    assert await cursors.uncovered("shop 7", "orders", window(0, 10)) == [window(0, 10)]
    assert await cursors.uncovered("shop 8", "orders", window(0, 10)) == []


@pytest.mark.parametrize("table", ["cursors", "leases"])
async def test_a_row_that_somebody_keeps_locked_holds_up_its_own_shop_only(
    database: Database, keeper: LeaseKeeper, connection: asyncpg.Connection, table: str
) -> None:
    names = [f"shop {n}" for n in range(12)]
    for name in names:
        await Cursors(database).ensure(name, ["orders"])
    leases = [await hold(keeper, name) for name in names]
    empty = EmptyClosings(database)
    async with connection.transaction():
        await connection.execute(f"SELECT FROM sync.{table} WHERE shop_id = 'shop 3' FOR UPDATE")
        ends = [asyncio.create_task(empty.close(lease, "orders", closing(0, 10))) for lease in leases]
        late = ends.pop(3)
        await asyncio.wait_for(asyncio.gather(*ends), 5)
        # What is asked next is not held up either.
        await asyncio.wait_for(empty.close(leases[0], "orders", closing(10, 20)), 5)
        assert not late.done()
    await asyncio.wait_for(late, 10)
    assert {row["shop_id"] for row in await ledger(connection)} == set(names)


async def test_a_cursor_that_somebody_keeps_locked_keeps_no_other_stream_from_being_due(
    database: Database, connection: asyncpg.Connection
) -> None:
    names = [f"shop {n}" for n in range(12)]
    cursors = Cursors(database)
    for name in names:
        await cursors.ensure(name, ["orders"])
    async with connection.transaction():
        await connection.execute("SELECT FROM sync.cursors WHERE shop_id = 'shop 3' FOR UPDATE")
        tried = asyncio.gather(*(cursors.note_attempt(name, "orders") for name in names))
        await asyncio.wait_for(tried, 5)
        ends = [asyncio.create_task(cursors.note_success(name, "orders", due_in_s=60)) for name in names]
        late = ends.pop(3)
        await asyncio.wait_for(asyncio.gather(*ends), 5)
        assert not late.done()
    await asyncio.wait_for(late, 10)
    unnoted = "SELECT count(*) FROM sync.cursors WHERE shop_id LIKE 'shop %' AND succeeded_at IS NULL"
    assert await connection.fetchval(unnoted) == 0


async def test_an_older_claim_to_a_shop_closes_nothing_beside_a_newer_one(
    database: Database, keeper: LeaseKeeper, connection: asyncpg.Connection
) -> None:
    old, new = await hold(keeper), await hold(keeper)
    empty = EmptyClosings(database)
    ends = await asyncio.gather(
        empty.close(new, "products", closing(0, 1)),  # Under way when the other two go together.
        empty.close(old, "orders", closing(0, 10)),
        empty.close(new, "inventory", closing(0, 10)),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [type(None), FencedOutError, type(None)]
    assert {row["stream"] for row in await ledger(connection)} == {"products", "inventory"}


async def test_slices_of_one_stream_that_end_at_once_are_all_closed(
    database: Database, lease: Lease, connection: asyncpg.Connection
) -> None:
    empty = EmptyClosings(database)
    ends: list[Closing] = [closing(start, start + 10) for start in (50, 10, 30, 0, 20, 40)]
    await asyncio.gather(*(empty.close(lease, "orders", end) for end in ends))
    assert await Cursors(database).gaps(SHOP, "orders", window(0, 61)) == [window(60, 61)]
    assert sum(row["polls"] for row in await ledger(connection)) == 6


async def test_a_reserved_run_has_no_row_until_a_slice_of_it_changes_something(
    database: Database, sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    runs = Runs(database)
    quiet = await runs.reserve(lease)
    await poll(sink, lease, 0, 60, run_id=quiet)
    assert await connection.fetchval("SELECT count(*) FROM sync.runs") == 0
    busy = await runs.reserve(lease)
    end = closing(60, 120, run_id=busy)
    await sink.write(ORDERS, page([order("1")]), lease=lease, closing=end)
    row = await connection.fetchrow("SELECT * FROM sync.runs")
    assert (row["run_id"], row["reason"], row["epoch"]) == (busy, "due", lease.epoch)
    assert (row["finished_at"], row["outcome"]) == (None, None)
    await runs.end(busy, outcome="complete", error=None, tally=Tally(inserted=1))
    row = await connection.fetchrow("SELECT * FROM sync.runs")
    assert (row["outcome"], row["inserted"]) == ("complete", 1)


def lose_next_commit(monkeypatch: pytest.MonkeyPatch, *, undone: bool = False) -> None:
    """The connection breaks while the next transaction commits: it is done, or undone."""
    end, losses = Transaction.__aexit__, [asyncpg.ConnectionDoesNotExistError("closed while committing")]

    async def lose(self: Transaction, kind: Any, error: Any, trace: Any) -> None:
        if error is not None or not losses:
            await end(self, kind, error, trace)
            return
        loss = losses.pop()
        await end(self, type(loss) if undone else None, loss if undone else None, trace)
        raise loss

    monkeypatch.setattr(Transaction, "__aexit__", lose)


async def test_a_quiet_poll_whose_commit_was_not_heard_of_counts_once(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for since in (0, 60):
        lose_next_commit(monkeypatch)
        await poll(sink, lease, since, since + 60)
    (row,) = await ledger(connection)
    assert (row["polls"], row["requests"], row["walks"]) == (2, 2, 2)
    await poll(sink, lease, 120, 180)
    assert [row["polls"] for row in await ledger(connection)] == [3]


async def test_a_slice_whose_commit_was_not_heard_of_is_in_the_ledger_once_as_what_it_was(
    database: Database,
    sink: Sink,
    lease: Lease,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = await Runs(database).reserve(lease)
    lose_next_commit(monkeypatch)
    end = closing(0, 10, run_id=run_id)
    tally = await sink.write(ORDERS, page([order("1")]), lease=lease, closing=end)
    (row,) = await ledger(connection)
    assert (row["run_id"], row["inserted"], row["unchanged"]) == (run_id, 1, 0)
    # Told from it, the run has a row that it must end.
    assert (tally.inserted, tally.unchanged) == (1, 0)
    assert await Cursors(database).uncovered(SHOP, "orders", window(0, 10)) == []


async def test_a_slice_whose_transaction_was_undone_is_closed_by_the_next_try(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await poll(sink, lease, 0, 60)
    lose_next_commit(monkeypatch, undone=True)
    await poll(sink, lease, 60, 120)
    assert [(row["polls"], row["until"]) for row in await ledger(connection)] == [(2, at(120))]


async def test_a_row_that_a_dead_process_left_open_is_closed_by_a_quiet_run_too(
    database: Database, lease: Lease, connection: asyncpg.Connection
) -> None:
    runs = Runs(database)
    await runs.show(await runs.reserve(lease), lease, reason="due", age_s=30)
    await runs.reserve(lease)
    assert [r["outcome"] for r in await connection.fetch("SELECT outcome FROM sync.runs")] == ["abandoned"]


async def test_the_request_rate_counts_every_slice_and_forgets_old_ones(
    database: Database, sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO sync.shops VALUES ($1, 1, 'c')", SHOP)
    for _ in range(30):
        await poll(sink, lease, 0, 60)
    (status,) = [s for s in await Status(database).read(["orders"]) if s.stream == "orders"]
    assert 0.4 < status.requests_per_second <= 0.5
    await connection.execute("UPDATE sync.cursors SET rated_at = now() - interval '3 minutes'")
    (status,) = [s for s in await Status(database).read(["orders"]) if s.stream == "orders"]
    assert 0.01 < status.requests_per_second < 0.03
    for age in ("1 year", "-1 day"):
        await connection.execute(f"UPDATE sync.cursors SET rated_at = now() - interval '{age}'")
        await poll(sink, lease, 0, 60)
