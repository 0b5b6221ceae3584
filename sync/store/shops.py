"""Connected shops and the tokens behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from sync.errors import DatabaseError, NeedsReauthError, ShopState
from sync.model import AuthorizedShop, Shop, Tokens
from sync.store.credentials import Vault
from sync.store.pool import Database
from sync.store.queries import query
from sync.store.together import Together

_GONE = "the tokens of this shop are gone: connect it again with `shopsync shops connect`"


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
class ShopRow:
    """A connected shop as `shops list` shows it."""

    shop: Shop
    state_reason: str | None
    state_since: datetime
    seller_name: str
    connected_at: datetime | None
    refresh_expires_at: datetime | None


class Shops:
    """The tables sync.shops, sync.credentials and tiktok.shops."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        # A refresh keeps its connection while TikTok answers: most are left for those who store pages.
        self._refreshes = asyncio.Semaphore(max(1, database.size // 4))
        self._finding: Together[str, ShopRow | None] = Together(self._find, key=lambda shop_id: shop_id)

    async def connect(
        self, app: str, tokens: Tokens, shops: Sequence[AuthorizedShop], *, fetched_at: datetime
    ) -> None:
        """The tokens and every shop they may read are stored, all or nothing."""

        async def work(connection: asyncpg.Connection) -> None:
            credential_id = await connection.fetchval(
                query("upsert_credential"),
                app,
                tokens.open_id,
                tokens.seller_name,
                tokens.seller_region,
                self._seal(app, tokens.open_id, "access", tokens.access_token),
                self._seal(app, tokens.open_id, "refresh", tokens.refresh_token),
                tokens.access_expires_at,
                tokens.refresh_expires_at,
                list(tokens.granted_scopes),
            )
            for shop in shops:
                await connection.execute(query("connect_shop"), shop.shop_id, credential_id, shop.cipher)
                await connection.execute(
                    query("describe_shop"),
                    shop.shop_id,
                    shop.name,
                    shop.region,
                    shop.seller_type,
                    shop.code,
                    json.dumps(_without_cipher(shop)),
                    fetched_at,
                )

        await self._database.transact(work)

    async def list(self, shop_ids: Sequence[str] | None = None) -> list[ShopRow]:
        """The connected shops, those disconnected included; all, or the named ones that exist."""
        rows = await self._database.rows("list_shops", None if shop_ids is None else list(shop_ids))
        return [_read_shop(row) for row in rows]

    async def find(self, shop_id: str) -> ShopRow | None:
        """The connected shop, or None when there is none of that id."""
        return await self._finding.ask(shop_id)

    async def set_state(self, shop_id: str, state: ShopState, *, reason: str | None = None) -> bool:
        """True when the shop exists and is in that state now."""
        return await self._database.value("set_shop_state", shop_id, state, reason) is not None

    async def note_state(self, shop_id: str, state: ShopState, *, reason: str | None) -> None:
        """The shop is in the state that a sync found it in, unless a person has decided otherwise."""
        await self._database.run("note_shop_state", shop_id, state, reason)

    async def pause(self, shop_id: str) -> None:
        """The shop is paused, and a sync of it that is under way anywhere ends at its next write."""
        await self._database.run("set_shop_state", shop_id, "paused", "paused by a person")
        await self._database.run("revoke_lease", shop_id)

    async def disconnect(self, shop_id: str) -> bool:
        """True when the shop existed; its rows stay, its tokens go with the seller's last shop."""

        async def work(connection: asyncpg.Connection) -> bool:
            found = await connection.fetchval(
                query("set_shop_state"), shop_id, "disconnected", "disconnected by a person"
            )
            await connection.execute(query("mark_disconnected"), shop_id)
            await connection.execute(query("forget_credential"), shop_id)
            await connection.execute(query("revoke_lease"), shop_id)
            return found is not None

        return await self._database.transact(work)

    async def read_credential(self, credential_id: int) -> Credential:
        """The tokens as they are now."""
        rows = await self._database.rows("read_credential", credential_id)
        if not rows:
            raise NeedsReauthError(_GONE)
        return self._open(rows[0])

    async def refresh(
        self, credential_id: int, *, seen: int, refresh: Callable[[Credential], Awaitable[Tokens]]
    ) -> Credential:
        """The tokens after one refresh, made by whoever came first.

        ``seen`` is the generation that the caller found wanting: when the row is newer already,
        ``refresh`` is not called. One caller at a time, over all processes; the new pair is stored
        in the transaction that held the row, before anyone uses it.
        """
        values: tuple[Any, ...] | None = None
        try:
            async with self._refreshes, self._database.connection() as connection, connection.transaction():
                row = await connection.fetchrow(query("lock_credential"), credential_id)
                if row is None:
                    raise NeedsReauthError(_GONE)
                current = self._open(row)
                if current.generation != seen:
                    return current
                tokens = await refresh(current)
                values = (
                    credential_id,
                    self._seal(row["app"], row["open_id"], "access", tokens.access_token),
                    self._seal(row["app"], row["open_id"], "refresh", tokens.refresh_token),
                    tokens.access_expires_at,
                    tokens.refresh_expires_at,
                    list(tokens.granted_scopes),
                    seen,
                )
                await connection.execute(query("store_refreshed"), *values)
        except DatabaseError:
            if values is None:
                raise
            # The old pair may be dead already: the new one must not be lost with a connection. If
            # it was stored after all, or replaced by a consent, the generation says so.
            await self._store_refreshed(values)
        return await self.read_credential(credential_id)

    async def _store_refreshed(self, values: tuple[Any, ...]) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await connection.execute(query("store_refreshed"), *values)

        await self._database.transact(work)

    async def condemn(self, credential_id: int, why: str, *, seen: int) -> None:
        """The tokens of that generation are dead; their shops wait for a new consent."""
        await self._database.run("condemn_credential", credential_id, why, seen)

    async def _find(self, shop_ids: Sequence[str]) -> Sequence[ShopRow | None]:
        found = {row.shop.shop_id: row for row in await self.list(shop_ids)}
        return [found.get(shop_id) for shop_id in shop_ids]

    def _seal(self, app: str, open_id: str, kind: str, token: str) -> bytes:
        return self._vault.seal(token, bound_to=f"{app}|{open_id}|{kind}")

    def _open(self, row: asyncpg.Record) -> Credential:
        def opened(column: str, kind: str) -> str:
            return self._vault.open(row[column], bound_to=f"{row['app']}|{row['open_id']}|{kind}")

        previous = row["previous_refresh_token"]
        return Credential(
            credential_id=row["credential_id"],
            app=row["app"],
            access_token=opened("access_token", "access"),
            refresh_token=opened("refresh_token", "refresh"),
            previous_refresh_token=None if previous is None else opened("previous_refresh_token", "refresh"),
            access_expires_at=row["access_expires_at"],
            refresh_expires_at=row["refresh_expires_at"],
            obtained_at=row["obtained_at"],
            generation=row["generation"],
            needs_reauth=row["needs_reauth"],
        )


def _read_shop(row: asyncpg.Record) -> ShopRow:
    return ShopRow(
        shop=Shop(
            shop_id=row["shop_id"],
            name=row["name"],
            region=row["region"],
            app=row["app"],
            credential_id=row["credential_id"],
            cipher=row["cipher"],
            state=row["state"],
            granted_scopes=frozenset(row["granted_scopes"]),
        ),
        state_reason=row["state_reason"],
        state_since=row["state_since"],
        seller_name=row["seller_name"],
        connected_at=row["connected_at"],
        refresh_expires_at=row["refresh_expires_at"],
    )


def _without_cipher(shop: AuthorizedShop) -> dict[str, Any]:
    return {
        "id": shop.shop_id,
        "name": shop.name,
        "region": shop.region,
        "seller_type": shop.seller_type,
        "code": shop.code,
    }
