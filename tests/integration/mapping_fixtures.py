"""The fixture ``copy``: a session on the real tables, emptied for each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sync.store.migrations import migrate
from tests.integration.mapping import Copy, connect


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def _run(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _build(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def mapping_url(server_url: str) -> Iterator[str]:
    """A database of its own with the tables and views of this version."""
    name = f"shopsync_mapping_{os.getpid()}"
    asyncio.run(_run(server_url, f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))
    url = _with_database(server_url, name)
    asyncio.run(_build(url))
    yield url
    asyncio.run(_run(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def copy(mapping_url: str) -> AsyncIterator[Copy]:
    """A session on empty tables."""
    connection = await connect(mapping_url)
    tables = await connection.fetchval(
        "SELECT string_agg('tiktok.' || relname, ', ') FROM pg_class"
        " WHERE relnamespace = 'tiktok'::regnamespace AND relkind = 'r'"
    )
    await connection.execute(f"TRUNCATE {tables}")
    yield Copy(connection, mapping_url)
    await connection.close()
