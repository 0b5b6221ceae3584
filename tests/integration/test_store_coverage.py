"""Coverage: what was read, what is settled, what is still to be read. On real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.engine.plan import settled_until
from sync.model import Tally, Window
from sync.store.cursors import Cursors
from sync.store.leases import Lease, LeaseKeeper
from sync.store.ledger import close_slice
from sync.store.pool import Database
from sync.store.sink import Sink
from tests.integration.store_probe import ORDERS, SHOP, at, closing, hold, order, page, window

LONGEST = 40
SPANS = st.tuples(st.integers(0, LONGEST - 1), st.integers(1, 12)).map(lambda s: (s[0], s[0] + s[1]))
# A window that was read, and how far behind its start it is settled.
READS = st.lists(st.tuples(SPANS, st.integers(-3, 15)), max_size=8)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=4) as opened:
        yield opened


@pytest.fixture
async def cursors(database: Database) -> Cursors:
    made = Cursors(database)
    await made.ensure(SHOP, ["orders", "products"])
    return made


@pytest.fixture
async def lease(database_url: str) -> AsyncIterator[Lease]:
    async with LeaseKeeper(database_url) as keeper:
        yield await hold(keeper)


def seconds_of(windows: Sequence[Window]) -> set[int]:
    """The whole seconds in the windows, which must be apart from each other and in order."""
    for left, right in pairwise(windows):
        assert left.until < right.since
    return {int((w.since - at(0)).total_seconds()) + second for w in windows for second in range(w.seconds)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=READS, asked=SPANS)
def test_what_is_left_to_read_is_what_a_set_of_seconds_says(
    database_url: str, reads: list[tuple[tuple[int, int], int]], asked: tuple[int, int]
) -> None:
    covered: set[int] = set()
    settled: set[int] = set()
    for (since, until), settled_s in reads:
        covered |= set(range(since, until))
        settled |= set(range(since, min(until, since + settled_s)))
    target = set(range(*asked))

    async def replay() -> tuple[list[Window], list[Window], object]:
        async with Database(database_url, size=2) as database:
            cursors = Cursors(database)
            await database.run("ensure_cursors", SHOP, ["orders"])
            async with database.connection() as connection, connection.transaction():
                await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}'")
                for (since, until), settled_s in reads:
                    read = closing(since, until, settled=since + settled_s)
                    await close_slice(connection, "orders", SHOP, read, Tally())
            async with database.connection() as connection:
                until = await connection.fetchval("SELECT synced_until FROM sync.cursors")
            return (
                await cursors.gaps(SHOP, "orders", window(*asked)),
                await cursors.uncovered(SHOP, "orders", window(*asked)),
                until,
            )

    gaps, uncovered, synced_until = asyncio.run(replay())
    assert seconds_of(gaps) == target - settled
    assert seconds_of(uncovered) == target - covered
    if covered:
        assert synced_until == at(max(covered) + 1)


async def test_a_stream_without_a_cursor_is_to_be_read_whole(database: Database) -> None:
    asked = window(0, 100)
    assert await Cursors(database).gaps("never seen", "orders", asked) == [asked]
    assert await Cursors(database).uncovered("never seen", "orders", asked) == [asked]


async def test_coverage_advances_with_the_rows_of_the_last_page(
    database: Database, cursors: Cursors, lease: Lease, connection: asyncpg.Connection
) -> None:
    sink = Sink(database)
    await sink.write(ORDERS, page([order("1")]), lease=lease)
    assert await cursors.uncovered(SHOP, "orders", window(0, 10)) == [window(0, 10)]
    await sink.write(ORDERS, page([order("2")]), lease=lease, closing=closing(0, 10))
    assert await cursors.uncovered(SHOP, "orders", window(0, 12)) == [window(10, 12)]
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 2
    assert await connection.fetchval("SELECT count(*) FROM sync.slices WHERE verdict = 'clean'") == 1


async def test_an_empty_window_is_covered_as_a_result(
    database: Database, cursors: Cursors, lease: Lease, connection: asyncpg.Connection
) -> None:
    await Sink(database).write(ORDERS, None, lease=lease, closing=closing(0, 10))
    assert await cursors.gaps(SHOP, "orders", window(0, 10)) == []
    assert await connection.fetchval("SELECT count(*) FROM sync.slices") == 1


async def test_a_cut_slice_is_noted_and_covers_nothing(
    database: Database, cursors: Cursors, lease: Lease, connection: asyncpg.Connection
) -> None:
    cut = closing(0, 10, covers=False, verdict="cut")
    await Sink(database).write(ORDERS, page([order("1")]), lease=lease, closing=cut)
    assert await cursors.uncovered(SHOP, "orders", window(0, 10)) == [window(0, 10)]
    assert await connection.fetchval("SELECT verdict FROM sync.slices") == "cut"


async def test_the_coverage_of_streams_and_shops_is_apart(
    database: Database, cursors: Cursors, lease: Lease
) -> None:
    await cursors.ensure("other", ["orders"])
    await Sink(database).write(ORDERS, None, lease=lease, closing=closing(0, 10))
    assert await cursors.gaps(SHOP, "products", window(0, 10)) == [window(0, 10)]
    assert await cursors.gaps("other", "orders", window(0, 10)) == [window(0, 10)]


async def test_what_may_still_change_is_read_again_until_it_is_settled(
    database: Database, cursors: Cursors, lease: Lease
) -> None:
    sink = Sink(database)
    young = settled_until(at(100), lookback_s=30)
    await sink.write(ORDERS, None, lease=lease, closing=closing(0, 100, settled_until=young))
    assert await cursors.uncovered(SHOP, "orders", window(0, 100)) == []
    assert await cursors.gaps(SHOP, "orders", window(0, 110)) == [window(70, 110)]
    later = settled_until(at(500), lookback_s=30)
    await sink.write(ORDERS, None, lease=lease, closing=closing(70, 110, settled_until=later))
    assert await cursors.gaps(SHOP, "orders", window(0, 110)) == []


async def test_windows_may_be_closed_out_of_order_and_at_once(
    database: Database, cursors: Cursors, lease: Lease
) -> None:
    sink = Sink(database)
    ends = [closing(start, start + 10) for start in (90, 10, 50, 30, 70, 0, 20, 80, 40, 60)]
    await asyncio.gather(*(sink.write(ORDERS, None, lease=lease, closing=end) for end in ends))
    assert await cursors.gaps(SHOP, "orders", window(0, 100)) == []
    assert await cursors.gaps(SHOP, "orders", window(0, 101)) == [window(100, 101)]


async def test_a_stream_is_due_when_new_and_again_after_its_interval(
    database: Database, cursors: Cursors, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO sync.shops (shop_id, credential_id, cipher) VALUES ($1, 1, 'c')", SHOP
    )
    names = ["orders", "products"]
    due = await cursors.due_shops(names, at_most=10)
    assert [(shop, sorted(streams)) for shop, streams in due] == [(SHOP, names)]
    await cursors.note_success(SHOP, "orders", due_in_s=3600)
    assert await cursors.due_shops(names, at_most=10) == [(SHOP, ("products",))]
    await cursors.make_due(SHOP)
    assert len((await cursors.due_shops(names, at_most=10))[0][1]) == 2
    for state in ("paused", "needs_reauth", "disconnected"):
        await connection.execute("UPDATE sync.shops SET state = $1", state)
        assert await cursors.due_shops(names, at_most=10) == []


async def test_failures_are_counted_in_a_row_and_forgotten_after_a_success(cursors: Cursors) -> None:
    for _ in range(3):
        await cursors.note_failure(SHOP, "orders", error="x", due_in_s=0, parked_reason="y")
    assert await cursors.failures(SHOP, "orders") == 3
    await cursors.note_success(SHOP, "orders", due_in_s=0)
    assert await cursors.failures(SHOP, "orders") == 0
