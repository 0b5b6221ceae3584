"""What is to be read out of turn: heard from TikTok Shop's notifications, or an open order's turn.

Hints only. One that is lost, forged, late or repeated changes when something is read, never what is
stored, and the rounds find whatever no hint named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sync.store.pool import Database
from sync.store.queries import query
from sync.store.together import Together

REREAD = "reread"

_MOST_TRIES = 5
_SECOND_TRY_S = 2.0
_REREAD_ORDERS = 50
_REREAD_SHOPS = 20
_REREAD_EVERY_S = 2.0
_KEEP_DAYS = 3
_FORGET_AT_ONCE = 20_000


class Heard(NamedTuple):
    """A notification, and the app whose secret signed it."""

    notification_id: str
    shop_id: str
    app: str
    changed_at: datetime | None
    hints: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Hint:
    """One record to be read. ``version`` is what a read of it that begins now may settle."""

    stream: str
    key: str
    version: int
    source: str
    changed_at: datetime | None
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class RereadCost:
    """What the slow round through a shop's open orders costs, and how many hints wait there."""

    shop_id: str
    open_orders: int
    last_reread_round_s: float | None
    last_reread_round_orders: int | None
    hints_waiting: int


class Hints:
    """The tables sync.notifications, sync.hints and sync.rereads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hearing: Together[Heard, str] = Together(self._hear, key=lambda heard: heard.notification_id)

    async def hear(self, heard: Heard) -> str:
        """What became of the notification: hinted, duplicate, unknown_shop or other_app.

        Its hints survive whatever happens next. Raises DatabaseError when they could not be stored.
        """
        return await self._hearing.ask(heard)

    async def due(self, shop_id: str, streams: Sequence[str], *, at_most: int) -> list[Hint]:
        """What is to be read of the shop now, so many of each stream, notifications first."""
        rows = await self._database.rows("due_hints", shop_id, list(streams), at_most)
        return sorted((Hint(**row) for row in rows), key=lambda hint: hint.source == REREAD)

    async def settle(self, shop_id: str, hints: Sequence[Hint]) -> int:
        """The hints were read, or are given up. How many are gone: others came again meanwhile."""
        return await self._database.transact(
            lambda connection: connection.fetchval(query("settle_hints"), shop_id, *_columns(hints))
        )

    async def postpone(self, shop_id: str, hints: Sequence[Hint]) -> None:
        """The hints could not be read: each is tried again later, and later still, and then given up."""
        values = (shop_id, *_columns(hints), _SECOND_TRY_S, _MOST_TRIES)
        await self._database.run("postpone_hints", *values)

    async def drop(self, shop_id: str) -> None:
        """Nothing of the shop is to be read out of turn."""
        await self._database.run("drop_hints", shop_id)

    async def shops(self) -> dict[str, bool]:
        """Active shops with something to read now, and whether a process holds or wants the shop."""
        rows = await self._database.rows("hinted_shops")
        return {row["shop_id"]: row["is_held"] for row in rows}

    async def want(self, shop_id: str) -> None:
        """Who holds the shop for its hints only, gives way."""
        await self._database.run("want_lease", shop_id)

    async def wanted(self, shop_ids: Sequence[str]) -> list[str]:
        """Those of the shops that another process waits for."""
        return [row["shop_id"] for row in await self._database.rows("wanted_shops", list(shop_ids))]

    async def begin_rereads(self, *, round_s: float) -> None:
        """Every active shop has its place in the slow round through its open orders."""
        await self._database.run("begin_rereads", round_s)

    async def take_turns(self, *, round_s: float) -> list[str]:
        """The shops whose next open orders have their turn now, and are hinted at."""
        values = (round_s, _REREAD_ORDERS, _REREAD_SHOPS, _REREAD_EVERY_S)
        return [row["shop_id"] for row in await self._database.rows("take_turns", *values) if row["orders"]]

    async def costs(self) -> list[RereadCost]:
        """What the slow round costs, shop by shop; orders are counted."""
        return [RereadCost(**row) for row in await self._database.rows("reread_costs")]

    async def forget(self) -> int:
        """Notifications that nobody sends again are forgotten: so many."""
        return int(await self._database.value("forget_notifications", _KEEP_DAYS, _FORGET_AT_ONCE))

    async def _hear(self, heard: Sequence[Heard]) -> list[str]:
        hints = [
            (place, stream, key, one.changed_at)
            for place, one in enumerate(heard, start=1)
            for stream, key in one.hints
        ]
        rows = await self._database.rows(
            "hear_notifications",
            [one.notification_id for one in heard],
            [one.shop_id for one in heard],
            [one.app for one in heard],
            *([hint[i] for hint in hints] for i in range(4)),
        )
        outcomes = {row["place"]: row["outcome"] for row in rows}
        return [outcomes[place] for place in range(1, len(heard) + 1)]


def reread_requests_per_hour(open_orders: int, *, round_s: float) -> float:
    """Requests an hour that reading so many open orders again costs a shop."""
    if not open_orders or not round_s:
        return 0.0
    requests = -(-open_orders // _REREAD_ORDERS)
    return min(requests * 3600 / round_s, 3600 / _REREAD_EVERY_S)


def _columns(hints: Sequence[Hint]) -> tuple[list[str], list[str], list[int]]:
    return [h.stream for h in hints], [h.key for h in hints], [h.version for h in hints]
