"""The ledger of slices: what each one found, written in the transaction that closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

import asyncpg

from sync.errors import FencedOutError
from sync.model import Batch, Slice, Tally, Window
from sync.store.leases import Lease
from sync.store.pool import Database
from sync.store.queries import query
from sync.store.together import Together

# Those of a process that ends are lost, which leaves gaps and nothing worse.
_BLOCK = 64


@dataclass(slots=True)
class Entry:
    """Where the last try to close a slice put it in the ledger, whether or not that was committed."""

    slice_id: int | None = None
    polls: int | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Aside:
    """A row of the ledger for reads out of turn, made and prolonged by those that change something."""

    slice_id: int
    run_id: int
    reason: str
    verdict: Literal["notification", "reread", "repair"]
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Closing:
    """What is known of a slice when its last page is written. ``slice_id`` is None if it has written none."""

    run_id: int
    slice_: Slice
    verdict: str
    started_at: datetime
    settled_until: datetime
    first_total: int | None = None
    last_total: int | None = None
    distinct_ids: int = 0
    walks: int = 1
    tally: Tally = field(default_factory=Tally)
    covers: bool = True
    slice_id: int | None = None
    entry: Entry = field(default_factory=Entry, compare=False)


async def close_slice(
    connection: asyncpg.Connection, stream: str, shop_id: str, closing: Closing, tally: Tally
) -> None:
    """The slice is covered and accounted for in the ledger, once the transaction commits.

    Where an earlier try was committed after all, the ledger stays, and ``tally`` becomes that try's.
    """
    await _close(connection, [_Given(shop_id, stream, closing, tally)])


async def note_aside(
    connection: asyncpg.Connection, stream: str, shop_id: str, aside: Aside, tally: Tally
) -> None:
    """What was read out of turn is accounted for, if it has changed anything."""
    if tally.inserted + tally.updated + tally.rejected:
        await connection.execute(
            query("note_aside"),
            aside.slice_id,
            aside.run_id,
            aside.reason,
            shop_id,
            stream,
            aside.verdict,
            aside.started_at,
            tally.fetched,
            tally.inserted,
            tally.updated,
            tally.stale,
            tally.unchanged,
            tally.rejected,
        )


class SliceIds:
    """Ids for rows of the ledger that are written later, a block of them at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left: list[int] = []

    async def next(self) -> int:
        """An id that nothing else has."""
        while not self._left:
            rows = await self._database.rows("draw_slice_ids", _BLOCK)
            self._left += [int(row["slice_id"]) for row in reversed(rows)]
        return self._left.pop()


class _Given(NamedTuple):
    shop_id: str
    stream: str
    closing: Closing
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Ending:
    lease: Lease
    stream: str
    closing: Closing


class EmptyClosings:
    """Closes slices whose last page has no records: those of many shops in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Each may keep its connection for as long as the lock lasts.
        self._waiting = asyncio.Semaphore(max(1, database.size // 4))
        self._together: Together[_Ending, bool] = Together(
            self._close_free, key=lambda ending: (ending.lease.shop_id, ending.stream)
        )

    async def close(self, lease: Lease, stream: str, closing: Closing) -> None:
        """The slice is covered and accounted for.

        Raises FencedOutError when the lease is another's by now, and then has written nothing.
        """
        ending = _Ending(lease, stream, closing)
        if await self._together.ask(ending):
            return
        # Somebody has a row of this one locked, or the lease is lost: that is found out apart, where
        # waiting keeps no other shop from its end.
        async with self._waiting:
            is_closed = await self._database.transact(partial(_close_alone, ending=ending))
        if not is_closed:
            lease.lost.set()
            raise FencedOutError(f"the lease of shop {lease.shop_id} was taken over")

    async def _close_free(self, endings: Sequence[_Ending]) -> list[bool]:
        """Which of them were closed: those whose rows are free, and held until the transaction ends."""
        claims = [(e.lease.shop_id, e.lease.owner, e.lease.epoch, e.stream) for e in endings]

        async def work(connection: asyncpg.Connection) -> list[bool]:
            rows = await connection.fetch(query("hold_leases"), *map(list, zip(*claims, strict=True)))
            held = {tuple(row) for row in rows}
            given = [
                _Given(e.lease.shop_id, e.stream, e.closing, Tally())
                for e, claim in zip(endings, claims, strict=True)
                if claim in held
            ]
            if given:
                await _close(connection, given)
            return [claim in held for claim in claims]

        return await self._database.transact(work)


async def _close_alone(connection: asyncpg.Connection, *, ending: _Ending) -> bool:
    """Closed under its lease, however long its rows are locked; False when the lease is another's."""
    lease = ending.lease
    if await connection.fetchval(query("hold_lease"), lease.shop_id, lease.owner, lease.epoch) is None:
        return False
    await close_slice(connection, ending.stream, lease.shop_id, ending.closing, Tally())
    return True


async def _close(connection: asyncpg.Connection, given: Sequence[_Given]) -> None:
    values = zip(*(_values(one) for one in given), strict=True)
    rows = await connection.fetch(query("close_slices"), *values)
    entries = {(row["shop_id"], row["stream"]): row for row in rows}
    for shop_id, stream, closing, tally in given:
        row = entries.get((shop_id, stream))
        if row is None:
            continue  # Without a cursor.
        entry = closing.entry
        if row["is_counted"]:
            for name in Tally.__slots__:
                setattr(tally, name, getattr(entry.tally, name))
        entry.slice_id, entry.polls = row["slice_id"], row["polls"]
        entry.tally = replace(tally)


def _values(given: _Given) -> tuple[Any, ...]:
    """The parameters of close_slices for one slice, in their order."""
    shop_id, stream, closing, tally = given
    slice_ = closing.slice_
    window = slice_ if isinstance(slice_, Window) else None
    total = Tally()
    total.add(closing.tally)
    total.add(tally)
    return (
        closing.run_id,
        shop_id,
        stream,
        window.since if window else None,
        window.until if window else None,
        closing.settled_until,
        closing.covers and window is not None,
        len(slice_.keys) if isinstance(slice_, Batch) else None,
        closing.verdict,
        closing.first_total,
        closing.last_total,
        closing.distinct_ids,
        closing.walks,
        total.requests,
        total.fetched,
        total.inserted,
        total.updated,
        total.stale,
        total.unchanged,
        total.rejected,
        closing.started_at,
        closing.entry.slice_id,
        closing.entry.polls,
        closing.slice_id,
    )
