"""What the tests stand on: a real PostgreSQL, the real simulator, the real application."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from sync.store.embedded import start_server
from sync.store.leases import Lease, LeaseKeeper
from sync.store.migrations import migrate_database
from sync.store.pool import Database
from sync.store.sink import Sink
from tests.integration.store_probe import hold
from tests.secrecy import secrets_at_rest, secrets_in
from tests.support import copy_database, execute, make_server_folder, with_database

pytest.register_assert_rewrite("tests.acceptance.processes")

StartSimulator = Callable[..., Awaitable[RunningSimulator]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails when a secret stands in anything that was printed or logged while it ran."""
    report = yield
    if report.passed and (told := secrets_in("".join(text for _, text in report.sections))):
        report.outcome = "failed"
        report.longrepr = f"printed or logged: {', '.join(secret[:8] + '...' for secret in told)}"
    return report


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A PostgreSQL for the whole run: that of SHOPSYNC_TEST_DATABASE_URL, or an embedded one."""
    given = os.environ.get("SHOPSYNC_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = make_server_folder()
    server = start_server(folder / "data", cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off")  # The machine does not crash in these tests, processes do.
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a database at this version, to be copied."""
    name = f"shopsync_template_{uuid.uuid4().hex[:12]}"

    async def make() -> None:
        await execute(server_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        await migrate_database(with_database(server_url, name))

    asyncio.run(make())
    yield name
    asyncio.run(execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A database of the test's own with nothing in it."""
    name = f"shopsync_test_{uuid.uuid4().hex[:12]}"
    await execute(server_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield with_database(server_url, name)
    await execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """A database of the test's own at this version."""
    name = f"shopsync_test_{uuid.uuid4().hex[:12]}"
    await copy_database(server_url, name, template=template)
    yield with_database(server_url, name)
    assert await secrets_at_rest(with_database(server_url, name)) == []
    await execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that sees what the worker's connections see."""
    opened = await asyncpg.connect(database_url, server_settings={"search_path": "sync_strict"})
    yield opened
    await opened.close()


@pytest.fixture
async def start_simulator() -> AsyncIterator[StartSimulator]:
    """Starts simulators: keyword arguments of build_world with small defaults, and ``options``."""
    async with AsyncExitStack() as stack:

        async def start(*, options: SimulatorOptions | None = None, **world: Any) -> RunningSimulator:
            defaults = {
                "seed": 7,
                "shops": 1,
                "orders_per_shop": 300,
                "products_per_shop": 20,
                "history_days": 60,
                "flash_sale_orders": 50,
                # So that a first round finds all: the last seconds before now are left for the next.
                "now": time.time() - 60,
            }
            running = await serve(build_world(**{**defaults, **world}), options=options or SimulatorOptions())
            stack.push_async_callback(running.close)
            return running

        yield start


@pytest.fixture
async def sink(database_url: str) -> AsyncIterator[Sink]:
    """A writer into the test's database."""
    async with Database(database_url, size=4) as opened:
        yield Sink(opened)


@pytest.fixture
async def lease(database_url: str) -> AsyncIterator[Lease]:
    """The lease of the store tests' shop."""
    async with LeaseKeeper(database_url) as keeper:
        yield await hold(keeper)
