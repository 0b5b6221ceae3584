"""The fixtures ``shops`` (rows of book-keeping to look at) and ``serve`` (the daemon's web server on them)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest

from sync.settings import load_settings
from sync.store.migrations import migrate
from sync.store.pool import Database
from sync.store.status import Status
from sync.web.server import WebServer

STREAMS = ("orders", "products", "inventory", "warehouses")
pytest_plugins = ("mapping_fixtures",)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as a test looks at it."""

    status: int
    headers: Any
    text: str


class Browser:
    """Asks one server; follows no redirect by itself."""

    def __init__(self, session: aiohttp.ClientSession, server: WebServer) -> None:
        self._session = session
        self.server = server

    async def get(self, path: str, **headers: str) -> Reply:
        headers.setdefault("Accept", "text/html")
        async with self._session.get(self.server.url + path, headers=headers, allow_redirects=False) as answer:
            return Reply(answer.status, answer.headers, await answer.text())


class Shops:
    """Writes the rows that the engine would have left behind."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def add(self, shop_id: str, name: str, *, state: str = "active", reason: str | None = None) -> None:
        """A shop all of whose streams were synced ten seconds ago."""
        await self.connection.execute(
            "INSERT INTO tiktok.shops (shop_id, name, region, timezone, connected_at, _raw, _fetched_at)"
            " VALUES ($1, $2, 'GB', 'UTC', now(), '{}', now())",
            shop_id,
            name,
        )
        await self.connection.execute(
            "INSERT INTO sync.shops (shop_id, credential_id, cipher, state, state_reason)"
            " VALUES ($1, 1, 'GCP_canary_cipher', $2, $3)",
            shop_id,
            state,
            reason,
        )
        await self.connection.execute(
            "INSERT INTO sync.cursors (shop_id, stream, synced_until, succeeded_at, due_at)"
            " SELECT $1, stream, now() - interval '10 s', now(), now() + interval '1 min'"
            " FROM unnest($2::text[]) AS stream",
            shop_id,
            list(STREAMS),
        )

    async def change(self, shop_id: str, stream: str, assignments: str) -> None:
        await self.connection.execute(
            f"UPDATE sync.cursors SET {assignments} WHERE shop_id = $1 AND stream = $2", shop_id, stream
        )

    async def add_orders(self, shop_id: str, count: int) -> None:
        await self.connection.execute(
            "INSERT INTO tiktok.orders (shop_id, order_id, buyer_nickname, _fetched_at)"
            " SELECT $1, n::text, 'canary buyer', now() FROM generate_series(1, $2::int) AS n",
            shop_id,
            count,
        )


@pytest.fixture(scope="session")
def web_url(mapping_server: str) -> Iterator[str]:
    """A database of its own with the tables of this version."""

    async def run(url: str, sql: str) -> None:
        connection = await asyncpg.connect(url)
        await (migrate(connection) if not sql else connection.execute(sql))
        await connection.close()

    asyncio.run(run(mapping_server, "CREATE DATABASE shopsync_web ENCODING 'UTF8' TEMPLATE template0"))
    url = urlunsplit(urlsplit(mapping_server)._replace(path="/shopsync_web"))
    asyncio.run(run(url, ""))
    yield url
    asyncio.run(run(mapping_server, "DROP DATABASE shopsync_web WITH (FORCE)"))


@pytest.fixture
async def shops(web_url: str) -> AsyncIterator[Shops]:
    """No shop yet."""
    connection = await asyncpg.connect(web_url)
    await connection.execute(
        "TRUNCATE sync.shops, sync.cursors, sync.slices, sync.rejects, tiktok.shops, tiktok.orders"
    )
    yield Shops(connection)
    await connection.close()


Serve = Callable[..., Awaitable[Browser]]


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
            jar = aiohttp.CookieJar(unsafe=True)
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            return Browser(session, server)

        yield start
