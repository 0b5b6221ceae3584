"""The fixtures ``shops`` (rows of book-keeping) and ``serve`` (the daemon's web server on them)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import aiohttp
import asyncpg
import pytest

from sync.settings import load_settings
from sync.store.pool import Database
from sync.store.status import Status
from sync.web.server import WebServer
from tests.support import execute, with_database
from tests.web_probe import STREAMS, Browser, Serve, Shops


@pytest.fixture(scope="session")
def web_url(server_url: str, template: str) -> Iterator[str]:
    """One database at this version for all tests of the web server: they only look at it."""
    name = f"shopsync_web_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(server_url, name)
    asyncio.run(execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def shops(web_url: str) -> AsyncIterator[Shops]:
    """No shop yet."""
    connection = await asyncpg.connect(web_url)
    await connection.execute(
        "TRUNCATE sync.shops, sync.cursors, sync.slices, sync.rejects, tiktok.shops, tiktok.orders"
    )
    yield Shops(connection)
    await connection.close()


@pytest.fixture
async def bereft(shops: Shops, serve: Serve, web_url: str) -> Browser:
    """Looks at a server whose database went away after it had started."""
    name = f"doomed_{uuid.uuid4().hex[:12]}"
    await shops.connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    browser = await serve(url=with_database(web_url, name))
    await shops.connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    return browser


@pytest.fixture
async def serve(web_url: str) -> AsyncIterator[Serve]:
    """Starts a web server with these settings, on a free port of loopback unless they say otherwise."""
    async with AsyncExitStack() as stack:

        async def start(
            *, is_ready: bool = True, running: frozenset[str] = frozenset(), url: str = web_url, **web: object
        ) -> Browser:
            settings = load_settings(overrides={"web": {"host": "127.0.0.1", "port": 0, **web}})
            database = await stack.enter_async_context(Database(url, size=2))
            server = await stack.enter_async_context(
                WebServer(
                    settings=settings,
                    status=Status(database),
                    streams=STREAMS,
                    is_ready=lambda: is_ready,
                    running=lambda: running,
                )
            )
            jar = aiohttp.CookieJar(unsafe=True)  # One that takes cookies from addresses, too.
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            return Browser(session, server, database)

        yield start
