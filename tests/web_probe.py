"""What the tests of the daemon's web server work with: rows to show, and a browser to look with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg

from sync.store.pool import Database
from sync.web.server import WebServer
from tests.secrecy import secrets_in

STREAMS = ("orders", "products", "inventory", "warehouses")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as a test looks at it."""

    status: int
    headers: Any
    text: str


async def read_reply(answer: aiohttp.ClientResponse) -> Reply:
    """The answer; fails the test when it tells a secret."""
    reply = Reply(answer.status, answer.headers, await answer.text())
    assert secrets_in(reply.text + str(reply.headers)) == []
    return reply


class Browser:
    """Asks one server; follows no redirect by itself."""

    def __init__(self, session: aiohttp.ClientSession, server: WebServer, database: Database) -> None:
        self._session = session
        self.server = server
        self.database = database

    async def get(self, path: str, **headers: str) -> Reply:
        headers.setdefault("Accept", "text/html")
        async with self._session.get(
            self.server.url + path, headers=headers, allow_redirects=False
        ) as answer:
            return await read_reply(answer)


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


Serve = Callable[..., Awaitable[Browser]]
"""Starts a web server with the settings given, on a free port of loopback unless they say otherwise."""
