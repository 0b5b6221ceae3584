"""Keys of the stored tokens: rotated row by row, beside refreshes, and never at the cost of a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sync.errors import SettingsError
from sync.model import Tokens
from sync.store.credentials import Vault, key_id
from sync.store.key_file import add_key, keep_newest, load_or_make_keys, rotating
from sync.store.pool import Database
from sync.store.shops import Shops
from sync.store.tokens import Credential, Credentials, UnstoredError
from tests.integration.store_probe import at
from tests.integration.test_store_credentials import shop, tokens

OLD, NEW = bytes(32), bytes(range(32))
_SELLERS = 5


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=8) as opened:
        yield opened


@pytest.fixture
async def sealed(database: Database) -> Credentials:
    """Five sellers' tokens, of which one was refreshed, sealed with the old key."""
    vault = Vault([OLD])
    for number in range(_SELLERS):
        await Shops(database, vault).connect(
            "default", tokens(1, open_id=f"o{number}"), [shop(number)], fetched_at=at(0)
        )
    credentials = Credentials(database, vault)
    await credentials.refresh(1, seen=1, refresh=next_pair)
    return credentials


async def next_pair(current: Credential) -> Tokens:
    return tokens(current.generation + 1)


async def test_every_token_is_sealed_anew_once_and_opens_with_the_new_key_alone(
    database: Database, sealed: Credentials
) -> None:
    assert await sealed.count_by_key() == {key_id(OLD): 2 * _SELLERS + 1}
    before = [await sealed.read(number) for number in range(1, _SELLERS + 1)]
    rotated = Credentials(database, Vault([NEW, OLD]))
    assert await rotated.reseal() == (2 * _SELLERS + 1, [])
    assert await rotated.reseal() == (0, [])
    alone = Credentials(database, Vault([NEW]))
    assert [await alone.read(number) for number in range(1, _SELLERS + 1)] == before
    assert await alone.count_by_key() == {key_id(NEW): 2 * _SELLERS + 1}


async def test_a_rotation_that_is_broken_off_is_gone_on_with(database: Database, sealed: Credentials) -> None:
    rotated = Credentials(database, Vault([NEW, OLD]))
    async with asyncio.timeout(30):
        rotation = asyncio.create_task(rotated.reseal())
        while key_id(NEW) not in await sealed.count_by_key():
            await asyncio.sleep(0)
    rotation.cancel()
    await asyncio.gather(rotation, return_exceptions=True)
    done = (await sealed.count_by_key()).get(key_id(NEW), 0)
    assert (await rotated.reseal())[0] == 2 * _SELLERS + 1 - done
    assert set(await rotated.count_by_key()) == {key_id(NEW)}


async def test_a_refresh_beside_the_rotation_is_not_lost(database: Database, sealed: Credentials) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def late_pair(current: Credential) -> Tokens:
        asked.set()
        await answered.wait()
        return await next_pair(current)

    # It still runs with the old key.
    refresh = asyncio.create_task(sealed.refresh(2, seen=1, refresh=late_pair))
    await asked.wait()
    rotated = Credentials(database, Vault([NEW, OLD]))
    rotation = asyncio.create_task(rotated.reseal())
    while (await sealed.count_by_key()).get(key_id(NEW), 0) < 3:
        await asyncio.sleep(0)
    answered.set()
    await asyncio.gather(refresh, rotation)
    assert set(await rotated.count_by_key()) == {key_id(NEW)}
    now = await Credentials(database, Vault([NEW])).read(2)
    assert (now.access_token, now.previous_refresh_token) == ("canary-access-2", "canary-refresh-1")


async def test_a_missing_key_changes_nothing_and_is_named_in_one_line(
    database: Database, sealed: Credentials
) -> None:
    with pytest.raises(SettingsError) as caught:
        await Credentials(database, Vault([NEW])).reseal()
    assert key_id(OLD).hex() in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(await sealed.count_by_key()) == {key_id(OLD)}
    with pytest.raises(SettingsError, match=key_id(OLD).hex()):
        await Credentials(database, Vault([NEW])).check_key()


async def test_tokens_of_which_some_open_stop_nobody(database: Database, sealed: Credentials) -> None:
    await Shops(database, Vault([NEW])).connect(
        "default", tokens(1, open_id="o9"), [shop(9)], fetched_at=at(0)
    )
    await Credentials(database, Vault([NEW])).check_key()


async def test_a_row_that_was_altered_is_reported_and_the_others_are_done(
    database: Database, sealed: Credentials, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "UPDATE sync.credentials SET access_token = substring(access_token FOR 20) WHERE credential_id = 3"
    )
    done, broken = await Credentials(database, Vault([NEW, OLD])).reseal()
    assert broken == [3]
    assert done == 2 * (_SELLERS - 1) + 1


async def test_a_process_with_a_key_file_follows_a_rotation(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "key"
    daemon = Credentials(database, file_vault(path))
    await Shops(database, file_vault(path)).connect("default", tokens(1), [shop(1)], fetched_at=at(0))
    rotated = Credentials(database, file_vault(path))
    add_key(path)
    # It seals with the new key from now on, and opens what others have sealed with it.
    await daemon.refresh(1, seen=1, refresh=next_pair)
    assert not await rotated.end_rotation(lambda: keep_newest(path))
    assert await rotated.reseal() == (1, [])
    assert await rotated.end_rotation(lambda: keep_newest(path))
    assert len(load_or_make_keys(path)) == 1
    assert (await daemon.read(1)).access_token == "canary-access-2"
    assert (await daemon.read(1)).previous_refresh_token == "canary-refresh-1"


async def test_a_pair_that_cannot_be_sealed_now_can_be_stored_later(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    daemon = Credentials(database, file_vault(path))
    await Shops(database, file_vault(path)).connect("default", tokens(1), [shop(1)], fetched_at=at(0))
    kept = path.read_text()

    async def damage_and_refresh(credential: Credential) -> Tokens:
        path.write_text("damaged")
        return await next_pair(credential)

    with pytest.raises(UnstoredError, match="damaged") as caught:
        await daemon.refresh(1, seen=1, refresh=damage_and_refresh)
    path.write_text(kept)
    await caught.value.store()
    assert (await daemon.read(1)).access_token == "canary-access-2"


async def test_old_keys_are_kept_while_a_consent_is_being_stored(
    database: Database, sealed: Credentials, connection: asyncpg.Connection
) -> None:
    rotated = Credentials(database, Vault([NEW, OLD]))
    await rotated.reseal()
    dropped: list[bool] = []
    async with connection.transaction():
        await connection.execute("LOCK TABLE sync.credentials IN ROW EXCLUSIVE MODE")
        ending = asyncio.create_task(rotated.end_rotation(lambda: dropped.append(True)))
        async with database.connection() as other:
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            while not await other.fetchval(waits):
                await asyncio.sleep(0.01)
        assert dropped == []
    assert await ending
    assert dropped == [True]


def test_a_rotation_that_was_begun_makes_no_further_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    (old,) = load_or_make_keys(path)
    newest, kept = add_key(path)
    assert kept == old != newest
    assert add_key(path) == [newest, old]
    keep_newest(path)
    assert load_or_make_keys(path) == [newest]
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_rotations_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with (
        rotating(tmp_path / "key"),
        pytest.raises(SettingsError, match="another process"),
        rotating(tmp_path / "key"),
    ):
        pass


def file_vault(path: Path) -> Vault:
    return Vault(load_or_make_keys(path), reread=lambda: load_or_make_keys(path))
