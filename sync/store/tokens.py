"""The tokens of every seller, sealed, and the one place where they change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg

from sync.clock import utc_now
from sync.errors import DatabaseError, NeedsReauthError, SettingsError, SyncError
from sync.model import Tokens
from sync.store.credentials import Vault
from sync.store.pool import Database
from sync.store.queries import query

# TikTok too begins to remind the seller at that time.
CONSENT_ENDS_SOON = timedelta(days=30)
ENDS_SOON = "let the seller consent again before then: `shopsync shops connect`"
_GONE = "the tokens of this shop are gone: connect it again with `shopsync shops connect`"
_KINDS = {"access_token": "access", "refresh_token": "refresh", "previous_refresh_token": "refresh"}
# A token call takes up to 25 s, and a refresh may take two.
_LOCK_TRIES = 6
_RESEAL_AT_ONCE = 100


def ends_soon(consent_ends_at: datetime | None) -> bool:
    """True when it is time to ask the seller for the next consent."""
    return consent_ends_at is not None and consent_ends_at - utc_now() < CONSENT_ENDS_SOON


@dataclass(frozen=True, slots=True)
class Credential:
    """One seller's tokens, opened."""

    credential_id: int
    app: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    previous_refresh_token: str | None = field(repr=False)
    access_expires_at: datetime
    refresh_expires_at: datetime
    obtained_at: datetime
    generation: int
    needs_reauth: str | None


@dataclass(frozen=True, slots=True)
class EndingConsent:
    """A consent that ends within CONSENT_ENDS_SOON, of which nobody was told for a day."""

    credential_id: int
    app: str
    seller_name: str
    ends_at: datetime
    shop_ids: list[str]


class UnstoredError(DatabaseError):
    """A new pair could not be stored and the old one may be dead: ``store`` is to be tried again."""

    def __init__(self, message: str, store: Callable[[], Awaitable[None]]) -> None:
        super().__init__(message)
        self.store = store


class Credentials:
    """The table sync.credentials."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def read(self, credential_id: int) -> Credential:
        """The tokens as they are now. Raises NeedsReauthError when there are none."""
        rows = await self._database.rows("read_credential", credential_id)
        if not rows:
            raise NeedsReauthError(_GONE)
        return self._open(rows[0])

    async def refresh(
        self, credential_id: int, *, seen: int, refresh: Callable[[Credential], Awaitable[Tokens]]
    ) -> bool:
        """The tokens are newer than the generation ``seen``; True when ``refresh`` made them so.

        One caller at a time, over all processes: whoever comes second finds the row newer and does
        not refresh. The new pair is stored in the transaction that held the row, before anyone uses it.
        """
        for tries_left in reversed(range(_LOCK_TRIES)):
            try:
                return await self._refresh(credential_id, seen, refresh)
            except DatabaseError as error:
                # Another process refreshes these very tokens: its result is worth waiting for.
                if not tries_left or not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _refresh(
        self, credential_id: int, seen: int, refresh: Callable[[Credential], Awaitable[Tokens]]
    ) -> bool:
        tokens: Tokens | None = None
        try:
            async with self._database.connection() as connection, connection.transaction():
                row = await connection.fetchrow(query("lock_credential"), credential_id)
                if row is None:
                    raise NeedsReauthError(_GONE)
                current = self._open(row)
                if current.generation != seen:
                    return False
                tokens = await refresh(current)
                await self._write(row, tokens, connection)
        except SyncError:
            if tokens is None:
                raise
            # The old pair may be dead already: the new one must not be lost with a connection, or
            # with a key file that is away. If it was stored after all, or replaced by a consent, the
            # generation says so.
            await self._store(row, tokens)
        return True

    async def _store(self, row: Mapping[str, Any], tokens: Tokens) -> None:
        try:
            await self._database.transact(partial(self._write, row, tokens))
        except SyncError as error:
            raise UnstoredError(str(error), partial(self._store, row, tokens)) from error

    async def _write(self, row: Mapping[str, Any], tokens: Tokens, connection: asyncpg.Connection) -> None:
        # Before anything is sealed: see end_rotation.
        await connection.execute(query("begin_to_write_credentials"))
        await connection.execute(
            query("store_refreshed"),
            row["credential_id"],
            *self._vault.seal_pair(tokens, app=row["app"], open_id=row["open_id"]),
            tokens.access_expires_at,
            tokens.refresh_expires_at,
            list(tokens.granted_scopes),
            row["generation"],
            tokens.obtained_at,
        )

    async def condemn(self, credential_id: int, why: str, *, seen: int) -> None:
        """The tokens of that generation are dead; their shops wait for a new consent."""
        await self._database.run("condemn_credential", credential_id, why, seen)

    async def note_ending(self) -> list[EndingConsent]:
        """The consents that end soon; each is returned once a day, to one process."""
        rows = await self._database.rows("note_ending_consents", CONSENT_ENDS_SOON)
        return [EndingConsent(**row) for row in rows]

    async def count_by_key(self) -> dict[bytes, int]:
        """How many stored tokens are sealed with each key, by its id."""
        return {row["key_id"]: row["tokens"] for row in await self._database.rows("count_by_key")}

    @property
    def newest_key(self) -> bytes:
        """The id of the key that tokens are sealed with from now on."""
        return self._vault.newest

    async def check_key(self) -> None:
        """Raises SettingsError when there are stored tokens and not one of them can be opened."""
        counts = await self.count_by_key()
        if counts and not any(self._vault.holds(key_id) for key_id in counts):
            raise SettingsError(_missing_keys(counts))

    async def reseal(self) -> tuple[int, list[int]]:
        """Every token is sealed with the newest key: how many were sealed anew, and whose did not open.

        Raises SettingsError before anything is changed when a key is missing. May be broken off at
        any time, and begun again.
        """
        unknown = {k: n for k, n in (await self.count_by_key()).items() if not self._vault.holds(k)}
        if unknown:
            raise SettingsError(_missing_keys(unknown))
        newest, last, done, broken = self._vault.newest, 0, 0, list[int]()
        while rows := await self._database.rows("sealed_before", newest, last, _RESEAL_AT_ONCE):
            for row in rows:
                last = row["credential_id"]
                try:
                    done += await self._database.transact(partial(self._reseal, last, newest))
                except SettingsError:
                    broken.append(last)
        return done, broken

    async def _reseal(self, credential_id: int, newest: bytes, connection: asyncpg.Connection) -> int:
        row = await connection.fetchrow(query("lock_credential"), credential_id)
        if row is None:
            return 0
        old = [column for column in _KINDS if row[column] is not None and not row[column].startswith(newest)]
        sealed = {column: row[column] for column in _KINDS} | {
            column: self._vault.seal(self._open_one(row, column), bound_to=_place(row, column))
            for column in old
        }
        await connection.execute(query("reseal_credential"), credential_id, *sealed.values())
        return len(old)

    async def end_rotation(self, drop_old_keys: Callable[[], None]) -> bool:
        """The old keys were dropped, unless something sealed with one has appeared meanwhile."""

        async def work(connection: asyncpg.Connection) -> bool:
            # Whoever stores tokens seals them after it has begun to write: nobody is between the two now.
            await connection.execute(query("lock_credentials_against_writers"))
            counts = {row["key_id"] for row in await connection.fetch(query("count_by_key"))}
            if counts - {self._vault.newest}:
                return False
            drop_old_keys()
            return True

        return await self._database.transact(work)

    def _open(self, row: Mapping[str, Any]) -> Credential:
        values: dict[str, Any] = {column: row[column] for column in Credential.__slots__}
        for column in _KINDS:
            if values[column] is not None:
                values[column] = self._open_one(row, column)
        return Credential(**values)

    def _open_one(self, row: Mapping[str, Any], column: str) -> str:
        return self._vault.open(row[column], bound_to=_place(row, column))


def _place(row: Mapping[str, Any], column: str) -> str:
    return f"{row['app']}|{row['open_id']}|{_KINDS[column]}"


def _missing_keys(counts: Mapping[bytes, int]) -> str:
    named = ", ".join(f"{key_id.hex()} ({count} tokens)" for key_id, count in sorted(counts.items()))
    return (
        f"SHOPSYNC_ENCRYPTION_KEY lacks a key that stored tokens are encrypted with: {named}; add it behind "
        "the newest one, or connect those shops again"
    )
