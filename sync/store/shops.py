"""Connected shops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from sync.errors import ShopState
from sync.model import AuthorizedShop, Shop, Tokens
from sync.store.consents import Connection, Link
from sync.store.credentials import Vault
from sync.store.pool import Database
from sync.store.queries import query
from sync.store.together import Together


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
    """The tables sync.shops and tiktok.shops, and how consents fill sync.credentials."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._finding: Together[str, ShopRow | None] = Together(self._find, key=lambda shop_id: shop_id)

    async def connect(
        self,
        app: str,
        tokens: Tokens,
        shops: Sequence[AuthorizedShop],
        *,
        fetched_at: datetime,
        streams: Sequence[str] = (),
        consented_at: datetime | None = None,
        is_asked: bool = True,
        settles: bytes | None = None,
    ) -> Connection:
        """The tokens and every shop they may read are stored, all or nothing, and due to be synced.

        ``consented_at`` is when their code was exchanged: where a newer consent is stored, nothing
        changes. ``is_asked`` says that somebody here began it: else only a known seller is connected.
        ``settles`` is the digest of the consent's state: whoever waits for it hears of the shops.
        """

        async def work(connection: asyncpg.Connection) -> Connection:
            if settles is not None:
                shop_ids = [shop.shop_id for shop in shops]
                await connection.execute(query("settle_consent"), settles, "connected", "", shop_ids)
            # Before anything is sealed: see Credentials.end_rotation.
            await connection.execute(query("begin_to_write_credentials"))
            credential_id = await connection.fetchval(
                query("upsert_credential"),
                app,
                tokens.open_id,
                tokens.seller_name,
                tokens.seller_region,
                *self._vault.seal_pair(tokens, app=app, open_id=tokens.open_id),
                tokens.access_expires_at,
                tokens.refresh_expires_at,
                list(tokens.granted_scopes),
                tokens.obtained_at,
                consented_at,
            )
            if credential_id is None:
                return Connection(is_superseded=True)
            link = Link(connection, credential_id, fetched_at=fetched_at, streams=streams)
            return await link.attach(shops, is_asked=is_asked)

        return await self._database.transact(work)

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

    async def note_cipher(self, shop_id: str, cipher: str) -> None:
        """The next sync of the shop begins with the cipher that TikTok has given it."""
        await self._database.run("note_cipher", shop_id, cipher)

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

    async def _find(self, shop_ids: Sequence[str]) -> Sequence[ShopRow | None]:
        found = {row.shop.shop_id: row for row in await self.list(shop_ids)}
        return [found.get(shop_id) for shop_id in shop_ids]


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
