"""Consents under way, and what becomes of shops when one arrives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from sync.errors import ShopState
from sync.model import AuthorizedShop
from sync.store.pool import Database
from sync.store.queries import query

_UNREACHED = (
    "the seller's newest consent does not reach this shop any more: let the seller consent again with "
    "the account that owns it (`shopsync shops connect`), or let go of it (`shopsync shops disconnect`)"
)


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent that was begun here, as far as it has come."""

    app: str
    is_used: bool
    is_expired: bool
    outcome: str | None
    message: str | None
    shop_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitingSeller:
    """A seller who consented without being asked, and of whom nothing is read yet."""

    credential_id: int
    app: str
    name: str
    region: str
    since: datetime
    shops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """What became of a consent's shops: the state of each, and those that it reaches no more.

    ``is_waiting``: the seller is not known and waits to be confirmed. ``is_superseded``: a newer
    consent of the seller is stored already, and stays.
    """

    credential_id: int = 0
    states: tuple[tuple[str, ShopState], ...] = ()
    unreached: tuple[str, ...] = ()
    is_waiting: bool = False
    is_superseded: bool = False


class Consents:
    """The table sync.consents, and the sellers who wait. A state is known by its digest only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, digest: bytes, app: str, *, life_s: float) -> None:
        """The state works once, for as long as it lives. Old ones are forgotten."""
        await self._database.run("forget_consents")
        await self._database.run("begin_consent", digest, app, life_s)

    async def take(self, digest: bytes) -> str | None:
        """The app of the consent, for one caller only; None when the state does not work (any more)."""
        app: str | None = await self._database.value("take_consent", digest)
        return app

    async def read(self, digest: bytes) -> Consent | None:
        """How far the consent has come; None when nothing is known of it."""
        rows = await self._database.rows("read_consent", digest)
        return Consent(**{**rows[0], "shop_ids": tuple(rows[0]["shop_ids"])}) if rows else None

    async def settle(
        self, digest: bytes, outcome: str, *, message: str = "", shop_ids: Sequence[str] = ()
    ) -> None:
        """Whoever waits for the consent hears of its outcome."""
        await self._database.run("settle_consent", digest, outcome, message, list(shop_ids))

    async def moment(self) -> datetime:
        """Now, by the database's clock; raises DatabaseError when it does not answer."""
        now: datetime = await self._database.value("moment")
        return now

    async def waiting(self) -> list[WaitingSeller]:
        """The sellers who wait to be confirmed, the longest waiting first."""
        return [
            WaitingSeller(
                credential_id=row["credential_id"],
                app=row["app"],
                name=row["seller_name"],
                region=row["seller_region"],
                since=row["waiting_since"],
                shops=tuple(row["waiting_shops"]),
            )
            for row in await self._database.rows("waiting_sellers")
        ]

    async def confirm(
        self,
        credential_id: int,
        shops: Sequence[AuthorizedShop],
        *,
        fetched_at: datetime,
        streams: Sequence[str],
    ) -> Connection | None:
        """The waiting seller's shops are connected; None when the seller does not wait any more."""

        async def work(connection: asyncpg.Connection) -> Connection | None:
            if await connection.fetchval(query("lock_waiting_seller"), credential_id) is None:
                return None
            link = Link(connection, credential_id, fetched_at=fetched_at, streams=streams)
            return await link.attach(shops, is_asked=True)

        return await self._database.transact(work)

    async def send_away(self, credential_id: int) -> bool:
        """True when a seller who waited is forgotten now."""
        return await self._database.value("send_away", credential_id) is not None


class Link:
    """Ties shops to a credential, inside the transaction of ``connection``."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        credential_id: int,
        *,
        fetched_at: datetime,
        streams: Sequence[str],
    ) -> None:
        self._connection = connection
        self._credential_id = credential_id
        self._fetched_at = fetched_at
        self._streams = list(streams)

    async def attach(self, shops: Sequence[AuthorizedShop], *, is_asked: bool) -> Connection:
        """The shops are connected, unless nobody here asked and the seller is not known.

        A shop of another credential moves; what a person has decided about a shop stays.
        """
        connection, credential_id = self._connection, self._credential_id
        if not is_asked and not await connection.fetchval(query("is_known_seller"), credential_id):
            names = [f"{shop.name} ({shop.region})" for shop in shops]
            await connection.execute(query("keep_waiting"), credential_id, names)
            return Connection(credential_id=credential_id, is_waiting=True)
        await connection.execute(query("end_waiting"), credential_id)
        shop_ids = sorted(shop.shop_id for shop in shops)
        before = await connection.fetch(query("lock_shops"), shop_ids)
        by_id = {shop.shop_id: shop for shop in shops}
        states = [(shop_id, await self._attach(by_id[shop_id], revives=is_asked)) for shop_id in shop_ids]
        unreached = await connection.fetch(query("part_from_shops"), credential_id, shop_ids, _UNREACHED)
        left = {row["credential_id"] for row in before} - {credential_id}
        await connection.execute(query("forget_spare_credentials"), sorted(left))
        return Connection(
            credential_id=credential_id,
            states=tuple(states),
            unreached=tuple(row["shop_id"] for row in unreached),
        )

    async def _attach(self, shop: AuthorizedShop, *, revives: bool) -> ShopState:
        connection = self._connection
        state: ShopState = await connection.fetchval(
            query("connect_shop"), shop.shop_id, self._credential_id, shop.cipher, revives
        )
        if state != "disconnected":
            await connection.execute(
                query("describe_shop"),
                shop.shop_id,
                shop.name,
                shop.region,
                shop.seller_type,
                shop.code,
                json.dumps(_without_cipher(shop)),
                self._fetched_at,
            )
            await connection.execute(query("ensure_cursors"), shop.shop_id, self._streams)
            await connection.execute(query("make_due"), shop.shop_id)
        return state


def _without_cipher(shop: AuthorizedShop) -> dict[str, Any]:
    return {
        "id": shop.shop_id,
        "name": shop.name,
        "region": shop.region,
        "seller_type": shop.seller_type,
        "code": shop.code,
    }
