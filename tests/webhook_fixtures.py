"""The fixture ``door``: a daemon's web server that knows one shop, of its default app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.webhook_probe import SHOP, Door, standing


@pytest.fixture
async def door(database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Door]:
    await connection.execute(
        "INSERT INTO sync.credentials (app, open_id, access_token, refresh_token, access_expires_at,"
        " refresh_expires_at) VALUES ('default', 'seller', '', '', now(), now())"
    )
    await connection.execute(
        "INSERT INTO sync.shops (shop_id, credential_id, cipher)"
        " SELECT $1, credential_id, 'c' FROM sync.credentials",
        SHOP,
    )
    async with standing(database_url) as door:
        yield door
