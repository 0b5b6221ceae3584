"""Coverage and due times of every shop and stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sync.errors import FencedOutError
from sync.model import Window
from sync.store.leases import Lease
from sync.store.pool import Database
from sync.store.queries import query
from sync.store.together import Together


class _Asked(NamedTuple):
    shop_id: str
    stream: str
    target: Window


class _Attempt(NamedTuple):
    shop_id: str
    stream: str
    owner: UUID | None
    epoch: int | None


class _Success(NamedTuple):
    shop_id: str
    stream: str
    due_in_s: float
    owner: UUID | None
    epoch: int | None


class Cursors:
    """The table sync.cursors; pages advance the coverage themselves, in their own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lease: Lease | None = None
        self._gaps: Together[_Asked, list[Window]] = Together(
            lambda asked: self._subtract("gaps", asked), key=lambda asked: asked
        )
        self._uncovered: Together[_Asked, list[Window]] = Together(
            lambda asked: self._subtract("uncovered", asked), key=lambda asked: asked
        )
        self._attempts: Together[_Attempt, bool] = Together(
            self._note_attempts, key=lambda attempt: attempt[:2]
        )
        self._successes: Together[_Success, int | None] = Together(
            self._note_successes, key=lambda success: success[:2]
        )
        self._waiting = asyncio.Semaphore(max(1, database.size // 4))

    def under(self, lease: Lease) -> Cursors:
        """The same, for whoever holds the lease: once another has it, nothing more is noted."""
        bound = copy(self)
        bound._lease = lease
        return bound

    async def gaps(self, shop_id: str, stream: str, target: Window) -> list[Window]:
        """What lies in the target and must (still, or once more) be read, oldest first."""
        return await self._gaps.ask(_Asked(shop_id, stream, target))

    async def uncovered(self, shop_id: str, stream: str, target: Window) -> list[Window]:
        """What lies in the target and was never read, oldest first."""
        return await self._uncovered.ask(_Asked(shop_id, stream, target))

    async def ensure(self, shop_id: str, streams: Sequence[str]) -> None:
        """Each stream has a cursor; new ones are due at once."""
        await self._database.run("ensure_cursors", shop_id, list(streams))

    async def cover_whole(self, shop_id: str, stream: str, as_of: datetime) -> None:
        """Everything of a stream without windows is stored as it was at that moment.

        Raises FencedOutError when the lease is another's by now, and then has written nothing.
        """
        if self._lease is None:
            raise RuntimeError("only whoever holds a shop's lease knows that everything was read")
        if not await self._database.value("cover_whole", shop_id, stream, as_of, *self._claim):
            self._lease.lost.set()
            raise FencedOutError(f"the lease of shop {shop_id} was taken over")

    async def note_attempt(self, shop_id: str, stream: str) -> None:
        """The stream is tried now, and has a cursor."""
        attempt = _Attempt(shop_id, stream, *self._claim)
        if not await self._attempts.ask(attempt):
            await self.ensure(shop_id, [stream])
            await self._attempts.ask(attempt)

    async def note_success(self, shop_id: str, stream: str, *, due_in_s: float) -> int:
        """The stream worked and is due again after that long.

        The answer is how many of its records are missing from the tables because Postgres refused them.
        """
        success = _Success(shop_id, stream, due_in_s, *self._claim)
        rejects = await self._successes.ask(success)
        if rejects is not None:
            return rejects
        # The cursor is locked, or the lease is lost: that is found out apart, where waiting keeps no
        # other shop from its due time.

        async def work(connection: asyncpg.Connection) -> int:
            await connection.execute(query("lock_cursor"), shop_id, stream)
            row = await connection.fetchrow(query("note_successes"), *([value] for value in success))
            return 0 if row is None else int(row["rejects"])

        async with self._waiting:
            return await self._database.transact(work)

    async def note_failure(
        self, shop_id: str, stream: str, *, error: str, due_in_s: float, parked_reason: str | None
    ) -> None:
        """The stream failed, is tried again after that long, and says why to whoever asks."""
        values = (shop_id, stream, error, due_in_s, parked_reason, *self._claim)
        await self._database.run("note_failure", *values)

    async def failures(self, shop_id: str, stream: str) -> int:
        """How often the stream failed in a row."""
        return int(await self._database.value("cursor_failures", shop_id, stream) or 0)

    async def count_rejects(self, shop_id: str, stream: str) -> int:
        """Records that are missing from the tables because Postgres refused them."""
        return int(await self._database.value("count_rejects", shop_id, stream))

    async def due_shops(
        self,
        streams: Sequence[str],
        *,
        at_most: int,
        besides: Sequence[str] = (),
        visited: Sequence[str] = (),
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Active shops and their streams that are due, longest waiting first, and none of ``besides``.

        Shops that are ``visited`` by the caller itself are not kept from being due by that.
        """
        values = (list(streams), at_most, list(besides), list(visited))
        rows = await self._database.rows("due_shops", *values)
        return [(row["shop_id"], tuple(row["streams"])) for row in rows]

    async def retry_failed(self) -> None:
        """Streams that failed last are due now."""
        await self._database.run("retry_failed")

    async def make_due(self, shop_id: str) -> None:
        """All streams of the shop are due now."""
        await self._database.run("make_due", shop_id)

    @property
    def _claim(self) -> tuple[UUID, int] | tuple[None, None]:
        return (None, None) if self._lease is None else (self._lease.owner, self._lease.epoch)

    async def _subtract(self, name: str, asked: Sequence[_Asked]) -> list[list[Window]]:
        found: list[list[Window]] = [[] for _ in asked]
        rows = await self._database.rows(
            name,
            [a.shop_id for a in asked],
            [a.stream for a in asked],
            [a.target.since for a in asked],
            [a.target.until for a in asked],
        )
        for row in rows:
            found[row["place"] - 1].append(Window(row["since"], row["until"]))
        return found

    async def _note_attempts(self, attempts: Sequence[_Attempt]) -> list[bool]:
        """Which of them have a cursor."""
        rows = await self._database.rows("note_attempts", *map(list, zip(*attempts, strict=True)))
        known = {(row["shop_id"], row["stream"]) for row in rows}
        return [attempt[:2] in known for attempt in attempts]

    async def _note_successes(self, successes: Sequence[_Success]) -> list[int | None]:
        rows = await self._database.rows("note_successes", *map(list, zip(*successes, strict=True)))
        rejects = {(row["shop_id"], row["stream"]): int(row["rejects"]) for row in rows}
        return [rejects.get(success[:2]) for success in successes]
