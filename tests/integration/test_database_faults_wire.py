"""The link to Postgres breaks: in the middle, around the commit, or without anybody being told."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.errors import DatabaseError, DatabaseGoneError
from sync.store import pool
from sync.store.migrations import migrate_database
from sync.store.pool import Database
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all, sync_until_complete
from tests.oracle import compare
from tests.proxy import CutRule, Proxy, postgres_proxy
from tests.support import connected_app, make_settings

_PATIENCE_S = 60
# A closing that was repeated though its commit had arrived would stand in the ledger twice.
_COUNTED_TWICE = (
    "SELECT count(*) - count(DISTINCT (shop_id, stream, since, until, verdict, started_at, keys, fetched))"
    "  FROM sync.slices WHERE since IS NOT NULL"
)
_COVERED_BUT_MISSING = (
    "SELECT count(*) FROM sync.slices AS s WHERE s.stream = 'orders' AND s.verdict = 'clean' AND s.polls = 1"
    "   AND s.distinct_ids > (SELECT count(*) FROM tiktok.orders AS o WHERE o.shop_id = s.shop_id"
    "                            AND o.update_time >= s.since AND o.update_time < s.until)"
)


async def test_a_backfill_that_is_cut_off_around_its_commits_ends_true_and_counts_nothing_twice(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Many windows and so many commits.
    monkeypatch.setattr("sync.engine.plan.LEAF_ROWS", 20)
    monkeypatch.setattr(pool, "_PAUSE_S", 0.01)
    simulator = await start_simulator(shops=2)
    rule = CutRule(
        seed=11,
        chances={"after_commit": 0.3, "before_commit": 0.1, "after_statement": 0.02, "in_rows": 0.01},
        # However few commits there are on a machine that is busy with other things.
        nth={"after_commit": (1, 3, 5), "before_commit": (2,), "after_statement": (7,), "in_rows": (9,)},
        application="shopsync",
    )
    async with postgres_proxy(database_url) as proxy:
        settings = make_settings(proxy.url, simulator, requests_per_second=1000)
        async with connected_app(settings, simulator) as app:
            proxy.rule = rule
            await sync_until_complete(app)
            proxy.rule = CutRule()
    assert proxy.cuts["after_commit"] >= 3
    assert min(proxy.cuts[m] for m in ("before_commit", "after_statement", "in_rows")) >= 1
    assert await compare(connection, simulator.url, simulator.world.shops) == []
    assert await connection.fetchval(_COUNTED_TWICE) == 0
    assert await connection.fetchval(_COVERED_BUT_MISSING) == 0


async def test_a_lease_whose_taking_was_not_heard_of_is_taken_anew(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=20)
    async with (
        postgres_proxy(database_url) as proxy,
        connected_app(make_settings(proxy.url, simulator), simulator) as app,
    ):
        proxy.rule = CutRule(nth={"after_statement": [1]}, application="shopsync leases")
        with pytest.raises(DatabaseGoneError, match="cannot be reached"):
            await sync_all(app)
        (report,) = await sync_all(app)
    assert proxy.cuts == {"after_statement": 1}
    assert report.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_migration_whose_commits_are_not_heard_of_is_repeated_without_harm(
    empty_database_url: str,
) -> None:
    async with postgres_proxy(empty_database_url, CutRule(nth={"after_commit": [1, 3, 6]})) as proxy:
        tries = 0
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                tries += 1
                try:
                    await migrate_database(proxy.url)
                except DatabaseError:
                    continue
                break
        assert (proxy.cuts["after_commit"], tries) == (3, 4)
    assert await migrate_database(empty_database_url) == []


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of every wait, small enough to be reached."""
    monkeypatch.setattr(pool, "_COMMAND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(pool, "_ACQUIRE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(pool, "_CLOSE_TIMEOUT_S", 0.3)


async def _waits_on_a_dead_link(proxy: Proxy, database: Database) -> None:
    """Whoever asks, and whoever opens a connection, is told in time that nothing answers."""
    assert await database.value("ping") == 1
    proxy.hold()
    for _ in range(2):
        with pytest.raises(DatabaseGoneError, match="cannot be reached"):
            await asyncio.wait_for(database.value("ping"), _PATIENCE_S)


@pytest.mark.usefixtures("short_waits")
async def test_a_link_on_which_nothing_moves_is_given_up_and_replaced(database_url: str) -> None:
    async with postgres_proxy(database_url) as proxy, Database(proxy.url, size=1) as database:
        await _waits_on_a_dead_link(proxy, database)
        proxy.let_go()
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    assert await database.value("ping") == 1
                except DatabaseGoneError:
                    continue
                break


@pytest.mark.usefixtures("short_waits")
async def test_closing_does_not_wait_for_a_link_on_which_nothing_moves(database_url: str) -> None:
    async with postgres_proxy(database_url) as proxy:
        async with asyncio.timeout(_PATIENCE_S), Database(proxy.url, size=1) as database:
            await _waits_on_a_dead_link(proxy, database)
        proxy.let_go()
