"""What Postgres allows, and which Postgres it is: rights, limits, a fail-over, a backup, another clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from sync.app import open_app
from sync.errors import DatabaseGoneError
from sync.store.cursors import Cursors
from sync.store.leases import LeaseKeeper
from sync.store.pool import Database
from tests.conftest import StartSimulator
from tests.integration.hazards import count_orders, shop_ids, sync_all
from tests.integration.store_probe import ROOT, hold
from tests.oracle import compare
from tests.support import connected_app, copy_database, execute, make_settings, with_database

_PATIENCE_S = 60


@asynccontextmanager
async def worker_role(server_url: str, database_url: str, *, options: str = "") -> AsyncIterator[str]:
    """The same database as a role that may do what the worker needs, and is no superuser."""
    role = f"worker_{urlsplit(database_url).path.rpartition('_')[2]}"
    await execute(server_url, f"CREATE ROLE {role} LOGIN {options}")
    for schema in ("sync", "tiktok", "bi", "sync_strict", "sync_lenient", "public"):
        await execute(
            database_url,
            f"GRANT USAGE ON SCHEMA {schema} TO {role};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role};"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        )
    try:
        parts = urlsplit(database_url)
        yield parts._replace(netloc=f"{role}:@{parts.netloc.rpartition('@')[2]}").geturl()
    finally:
        await execute(database_url, f"DROP OWNED BY {role}")
        await execute(server_url, f"DROP ROLE {role}")


async def test_a_right_that_was_lost_parks_its_stream_and_says_so(
    start_simulator: StartSimulator, server_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=2, orders_per_shop=30)
    async with (
        worker_role(server_url, database_url) as url,
        connected_app(make_settings(url, simulator), simulator) as app,
    ):
        role = urlsplit(url).username
        await connection.execute(f"REVOKE INSERT, UPDATE ON tiktok.products FROM {role}")
        during = await sync_all(app)
        parked = await connection.fetch(
            "SELECT DISTINCT stream, parked_reason FROM sync.cursors WHERE parked_reason IS NOT NULL"
        )
        first = (await shop_ids(app))[0]
        assert await count_orders(connection, first) == 30
        await connection.execute(f"GRANT INSERT, UPDATE ON tiktok.products TO {role}")
        after = await sync_all(app)
    assert [report.outcome for report in during] == ["incomplete", "incomplete"]
    assert [row["stream"] for row in parked] == ["products"]
    assert "permission denied for table products" in parked[0]["parked_reason"]
    assert "Grant the role" in parked[0]["parked_reason"]
    assert [report.outcome for report in after] == ["complete", "complete"]
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_server_with_too_few_connections_is_shared_and_not_given_up(
    start_simulator: StartSimulator, server_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=3, orders_per_shop=100)
    # One is for the leases; the pool may have ten, and gets two.
    async with (
        worker_role(server_url, database_url, options="CONNECTION LIMIT 3") as url,
        connected_app(make_settings(url, simulator), simulator) as app,
    ):
        reports = await asyncio.wait_for(sync_all(app), _PATIENCE_S)
    assert [report.problems for report in reports] == [[], [], []]
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_sessions_of_a_server_that_became_read_only_are_given_up(
    start_simulator: StartSimulator, server_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=30)
    name = urlsplit(database_url).path[1:]
    async with connected_app(make_settings(database_url, simulator), simulator):
        pass
    await execute(server_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with open_app(make_settings(database_url, simulator)) as app:
        # From now on a new session may write, and only a new one: as after a fail-over.
        await execute(server_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        refusals = 0
        while refusals < 5:
            try:
                (report,) = await asyncio.wait_for(sync_all(app), _PATIENCE_S)
            except DatabaseGoneError:
                refusals += 1
            else:
                break
    # That of the leases, and that of the pool.
    assert refusals == 2
    assert report.outcome == "complete"
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_leases_and_due_times_follow_the_clock_of_the_database(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_time = time.time
    monkeypatch.setattr(time, "time", lambda: host_time() + 86_400)
    async with Database(database_url, size=2) as database, LeaseKeeper(database_url) as keeper:
        lease = await hold(keeper)
        cursors = Cursors(database).under(lease)
        await cursors.note_attempt(lease.shop_id, "orders")
        await cursors.note_success(lease.shop_id, "orders", due_in_s=60)
        seconds = await connection.fetchrow(
            "SELECT extract(epoch FROM l.expires_at - now())::float8 AS lease,"
            "       extract(epoch FROM c.due_at - now())::float8 AS due,"
            "       extract(epoch FROM now() - c.succeeded_at)::float8 AS succeeded"
            "  FROM sync.leases AS l JOIN sync.cursors AS c USING (shop_id)"
        )
    assert 0 < seconds["lease"] <= 30
    assert 0 < seconds["due"] <= 60
    assert 0 <= seconds["succeeded"] < 60


async def test_a_dashboard_s_role_is_bounded_as_the_guide_says(
    server_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    shown = guide.partition("## A role for dashboards")[2].partition("```sql\n")[2].partition("```")[0]
    suffix = urlsplit(database_url).path.rpartition("_")[2]
    names = {
        "shopsync_bi": f"bi_{suffix}",
        "dashboards": f"dashboards_{suffix}",
        "ROLE shopsync ": "ROLE postgres ",
    }
    for name, own in names.items():
        shown = shown.replace(name, own)
    user = names["dashboards"]
    try:
        await connection.execute(shown)
        parts = urlsplit(database_url)
        url = parts._replace(netloc=f"{user}:@{parts.netloc.rpartition('@')[2]}").geturl()
        reader = await asyncpg.connect(url)
        await reader.fetch("SELECT * FROM tiktok.orders")
        bounds = [
            await reader.fetchval(f"SHOW {name}")
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_read_only")
        ]
        await reader.close()
        limit = await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", user)
    finally:
        for role in (user, names["shopsync_bi"]):
            await execute(database_url, f"DROP OWNED BY {role}")
            await execute(server_url, f"DROP ROLE {role}")
    assert (bounds, limit) == (["1min", "1min", "on"], 10)


async def test_a_copy_that_was_put_back_to_an_earlier_state_becomes_true_again(
    start_simulator: StartSimulator, server_url: str, database_url: str
) -> None:
    simulator = await start_simulator(orders_per_shop=200)
    settings = make_settings(database_url, simulator, settle_s=0)
    async with connected_app(settings, simulator) as app:
        await sync_all(app)
    name = f"{urlsplit(database_url).path[1:]}_backup"
    await copy_database(server_url, name, template=urlsplit(database_url).path[1:])
    try:
        for _ in range(100):
            simulator.simulation.mutations.mutate()
        async with open_app(settings) as app:
            await sync_all(app)
        restored = with_database(database_url, name)
        connection = await asyncpg.connect(restored)
        before = await compare(connection, simulator.url, simulator.world.shops)
        async with open_app(make_settings(restored, simulator, settle_s=0)) as app:
            (report,) = await sync_all(app)
        differences = await compare(connection, simulator.url, simulator.world.shops)
        await connection.close()
    finally:
        await execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")
    assert len(before) > 50
    assert (report.outcome, differences) == ("complete", [])
