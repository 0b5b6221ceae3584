"""Coverage and due times of every shop and stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sync.model import Window
from sync.store.pool import Database
from sync.store.together import Together


class _Asked(NamedTuple):
    shop_id: str
    stream: str
    target: Window


class _Success(NamedTuple):
    shop_id: str
    stream: str
    due_in_s: float


class Cursors:
    """The table sync.cursors; pages advance the coverage themselves, in their own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gaps: Together[_Asked, list[Window]] = Together(
            lambda asked: self._subtract("gaps", asked), key=lambda asked: asked
        )
        self._uncovered: Together[_Asked, list[Window]] = Together(
            lambda asked: self._subtract("uncovered", asked), key=lambda asked: asked
        )
        self._attempts: Together[tuple[str, str], bool] = Together(
            self._note_attempts, key=lambda cursor: cursor
        )
        self._successes: Together[_Success, int] = Together(
            self._note_successes, key=lambda success: success[:2]
        )

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
        """Everything of a stream without windows is stored as it was at that moment."""
        await self._database.run("cover_whole", shop_id, stream, as_of)

    async def note_attempt(self, shop_id: str, stream: str) -> None:
        """The stream is tried now, and has a cursor."""
        if not await self._attempts.ask((shop_id, stream)):
            await self.ensure(shop_id, [stream])
            await self._attempts.ask((shop_id, stream))

    async def note_success(self, shop_id: str, stream: str, *, due_in_s: float) -> int:
        """The stream worked and is due again after that long.

        The answer is how many of its records are missing from the tables because Postgres refused them.
        """
        return await self._successes.ask(_Success(shop_id, stream, due_in_s))

    async def note_failure(
        self, shop_id: str, stream: str, *, error: str, due_in_s: float, parked_reason: str | None
    ) -> None:
        """The stream failed, is tried again after that long, and says why to whoever asks."""
        await self._database.run("note_failure", shop_id, stream, error, due_in_s, parked_reason)

    async def failures(self, shop_id: str, stream: str) -> int:
        """How often the stream failed in a row."""
        return int(await self._database.value("cursor_failures", shop_id, stream) or 0)

    async def count_rejects(self, shop_id: str, stream: str) -> int:
        """Records that are missing from the tables because Postgres refused them."""
        return int(await self._database.value("count_rejects", shop_id, stream))

    async def due_shops(
        self, streams: Sequence[str], *, at_most: int, besides: Sequence[str] = ()
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Active shops and their streams that are due, longest waiting first, and none of ``besides``."""
        rows = await self._database.rows("due_shops", list(streams), at_most, list(besides))
        return [(row["shop_id"], tuple(row["streams"])) for row in rows]

    async def retry_failed(self) -> None:
        """Streams that failed last are due now."""
        await self._database.run("retry_failed")

    async def make_due(self, shop_id: str) -> None:
        """All streams of the shop are due now."""
        await self._database.run("make_due", shop_id)

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

    async def _note_attempts(self, cursors: Sequence[tuple[str, str]]) -> list[bool]:
        rows = await self._database.rows("note_attempts", *map(list, zip(*cursors, strict=True)))
        known = {(row["shop_id"], row["stream"]) for row in rows}
        return [cursor in known for cursor in cursors]

    async def _note_successes(self, successes: Sequence[_Success]) -> list[int]:
        rows = await self._database.rows("note_successes", *map(list, zip(*successes, strict=True)))
        rejects = {(row["shop_id"], row["stream"]): row["rejects"] for row in rows}
        return [rejects.get((s.shop_id, s.stream), 0) for s in successes]
