"""Tokens: sealed at rest, refreshed once however many ask, parked when only a consent helps."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.errors import NeedsReauthError, SettingsError
from sync.model import AuthorizedShop, Tokens
from sync.simulator.server import RunningSimulator
from sync.store import pool
from sync.store.credentials import Vault
from sync.store.pool import Database
from sync.store.shops import Shops
from sync.store.tokens import Credential, Credentials
from tests.conftest import StartSimulator
from tests.integration.hazards import WAITS_FOR_A_LOCK, wait_until_true
from tests.integration.store_probe import at
from tests.support import connected_app, make_settings

WAITING_SINCE = (
    "SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'shopsync%' AND wait_event_type = 'Lock'"
)
CREDENTIAL = "SELECT min(credential_id) FROM sync.credentials"
KEY = bytes(32)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(shops=2, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)


@pytest.fixture
async def app(simulator: RunningSimulator, database_url: str) -> AsyncIterator[App]:
    async with connected_app(make_settings(database_url, simulator), simulator) as opened:
        yield opened


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=8) as opened:
        yield opened


def tokens(number: int, *, open_id: str = "o1") -> Tokens:
    return Tokens(
        access_token=f"canary-access-{number}",
        access_expires_at=at(10**6),
        refresh_token=f"canary-refresh-{number}",
        refresh_expires_at=at(10**8),
        obtained_at=at(0),
        open_id=open_id,
        seller_name="Seller",
        seller_region="GB",
        granted_scopes=("seller.order.info",),
    )


def shop(number: int) -> AuthorizedShop:
    return AuthorizedShop(
        shop_id=f"s{number}", name="n", region="GB", seller_type="LOCAL", code="C", cipher="canary-cipher"
    )


async def connect(database: Database) -> tuple[Shops, Credentials, int]:
    shops, credentials = Shops(database, Vault([KEY])), Credentials(database, Vault([KEY]))
    await shops.connect("default", tokens(1), [shop(1), shop(2)], fetched_at=at(0))
    return shops, credentials, (await shops.list())[0].shop.credential_id


async def test_a_token_that_others_renewed_meanwhile_is_taken_without_asking(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    credential_id = await connection.fetchval(CREDENTIAL)
    seen = (await app.tokens.current(credential_id)).generation
    first = await app.tokens.renew(credential_id, seen=seen)
    late = await app.tokens.renew(credential_id, seen=seen)
    assert late.access_token == first.access_token
    assert simulator.simulation.meter.token_refreshes == 1


async def test_a_caller_that_is_cancelled_does_not_lose_the_new_pair(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    credential_id = await connection.fetchval(CREDENTIAL)
    seen = (await app.tokens.current(credential_id)).generation
    simulator.change_options(latency_s=0.3)
    caller = asyncio.create_task(app.tokens.renew(credential_id, seen=seen))
    async with asyncio.timeout(10):
        while not simulator.simulation.meter.token_refreshes:
            await asyncio.sleep(0.005)
    caller.cancel()
    await app.tokens.drain()
    assert await connection.fetchval("SELECT max(generation) FROM sync.credentials") == seen + 1
    assert (await app.tokens.current(credential_id)).generation == seen + 1


async def test_a_refresh_that_fails_after_its_caller_was_cancelled_is_no_stray_error(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    strays: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
    row = await connection.fetchrow("SELECT credential_id, open_id FROM sync.credentials LIMIT 1")
    simulator.simulation.accounts.revoke(row["open_id"])
    caller = asyncio.create_task(app.tokens.renew(row["credential_id"], seen=1))
    await asyncio.sleep(0)
    caller.cancel()
    await app.tokens.drain()
    del caller  # Its frames would keep the refresh alive, and only what is dead is told on.
    gc.collect()
    condemned = "SELECT needs_reauth IS NOT NULL FROM sync.credentials WHERE credential_id = $1"
    assert await connection.fetchval(condemned, row["credential_id"])
    assert strays == []


async def test_a_refused_refresh_parks_the_shops_of_that_seller_only(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    rows = await connection.fetch("SELECT credential_id, open_id FROM sync.credentials ORDER BY 1")
    simulator.simulation.accounts.revoke(rows[0]["open_id"])
    with pytest.raises(NeedsReauthError):
        await app.tokens.renew(rows[0]["credential_id"], seen=1)
    asked = simulator.simulation.meter.token_refreshes
    with pytest.raises(NeedsReauthError):
        await app.tokens.current(rows[0]["credential_id"])
    assert simulator.simulation.meter.token_refreshes == asked
    states = "SELECT credential_id, state FROM sync.shops"
    for row in await connection.fetch(states):
        is_refused = row["credential_id"] == rows[0]["credential_id"]
        assert row["state"] == ("needs_reauth" if is_refused else "active")


async def test_nothing_readable_is_stored(database: Database, connection: asyncpg.Connection) -> None:
    await connect(database)
    rows = await connection.fetch("SELECT * FROM sync.credentials")
    assert rows
    for value in rows[0].values():
        assert b"canary" not in (value if isinstance(value, bytes) else str(value).encode())


async def test_the_list_of_shops_for_people_holds_no_secret(
    database: Database, connection: asyncpg.Connection
) -> None:
    shops, _, _ = await connect(database)
    row = await connection.fetchval("SELECT to_jsonb(s)::text FROM tiktok.shops AS s LIMIT 1")
    assert "canary" not in row
    assert "canary" not in repr(await shops.list())


async def test_the_new_pair_replaces_the_old_one_which_is_kept_for_one_retry(database: Database) -> None:
    _, credentials, credential_id = await connect(database)

    async def ask(current: Credential) -> Tokens:
        return tokens(int(current.access_token[-1]) + 1)

    for seen in (1, 2):
        await credentials.refresh(credential_id, seen=seen, refresh=ask)
    now = await credentials.read(credential_id)
    assert (now.access_token, now.refresh_token) == ("canary-access-3", "canary-refresh-3")
    assert (now.previous_refresh_token, now.generation) == ("canary-refresh-2", 3)


async def test_a_refresh_that_fails_changes_nothing(database: Database) -> None:
    _, credentials, credential_id = await connect(database)
    before = await credentials.read(credential_id)

    async def ask(_: Credential) -> Tokens:
        raise NeedsReauthError("no longer known")

    with pytest.raises(NeedsReauthError):
        await credentials.refresh(credential_id, seen=1, refresh=ask)
    assert await credentials.read(credential_id) == before


async def test_a_token_that_was_copied_to_another_seller_s_row_does_not_open(
    database: Database, connection: asyncpg.Connection
) -> None:
    shops, credentials, _ = await connect(database)
    await shops.connect("default", tokens(2, open_id="o2"), [shop(3)], fetched_at=at(0))
    await connection.execute(
        "UPDATE sync.credentials SET access_token = (SELECT access_token FROM sync.credentials"
        " WHERE open_id = 'o1') WHERE open_id = 'o2'"
    )
    victim = await connection.fetchval("SELECT credential_id FROM sync.credentials WHERE open_id = 'o2'")
    with pytest.raises(SettingsError, match="altered or moved"):
        await credentials.read(victim)


async def test_a_rotated_key_opens_what_the_old_one_sealed(database: Database) -> None:
    _, _, credential_id = await connect(database)
    new = bytes(range(32))
    rotating = Credentials(database, Vault([new, KEY]))
    assert (await rotating.read(credential_id)).access_token == "canary-access-1"
    with pytest.raises(SettingsError, match="SHOPSYNC_ENCRYPTION_KEY"):
        await Credentials(database, Vault([new])).read(credential_id)


async def test_whoever_waits_long_for_another_s_refresh_gets_what_it_brings(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pool._SESSION, "lock_timeout", "500ms")
    async with Database(database_url, size=8) as database:
        _, credentials, credential_id = await connect(database)
        asked, answered = asyncio.Event(), asyncio.Event()

        async def ask(_: Credential) -> Tokens:
            asked.set()
            await answered.wait()
            return tokens(2)

        first = asyncio.create_task(credentials.refresh(credential_id, seen=1, refresh=ask))
        await asked.wait()
        second = asyncio.create_task(credentials.refresh(credential_id, seen=1, refresh=ask))
        # It has waited, was told that it took too long, and waits again.
        await wait_until_true(connection, WAITS_FOR_A_LOCK)
        began = await connection.fetchval(WAITING_SINCE)
        await wait_until_true(connection, f"SELECT ({WAITING_SINCE}) > $1", began)
        answered.set()
        assert (await first, await second) == (True, False)
        assert (await credentials.read(credential_id)).generation == 2


async def test_a_new_consent_replaces_dead_tokens_and_wakes_their_shops(
    database: Database, connection: asyncpg.Connection
) -> None:
    shops, credentials, credential_id = await connect(database)
    await credentials.condemn(credential_id, "gone", seen=1)
    assert {row.shop.state for row in await shops.list()} == {"needs_reauth"}
    await shops.connect("default", tokens(5), [shop(1), shop(2)], fetched_at=at(1))
    assert {row.shop.state for row in await shops.list()} == {"active"}
    assert (await credentials.read(credential_id)).needs_reauth is None
    assert await connection.fetchval("SELECT count(*) FROM sync.credentials") == 1


async def test_tokens_go_with_the_last_shop_of_a_seller(database: Database) -> None:
    shops, credentials, credential_id = await connect(database)
    assert await shops.disconnect("s1")
    assert (await credentials.read(credential_id)).generation == 1
    assert await shops.disconnect("s2")
    with pytest.raises(NeedsReauthError, match="connect it again"):
        await credentials.read(credential_id)
    assert not await shops.disconnect("unknown")
