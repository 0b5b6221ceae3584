"""Coverage and due times of every shop and stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync.model import Window
from sync.store.pool import Database


class Cursors:
    """The table sync.cursors; pages advance the coverage themselves, in their own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def gaps(self, shop_id: str, stream: str, target: Window) -> list[Window]:
        """What lies in the target and must (still, or once more) be read, oldest first."""
        rows = await self._database.rows("gaps", shop_id, stream, target.since, target.until)
        return [Window(row["since"], row["until"]) for row in rows]

    async def uncovered(self, shop_id: str, stream: str, target: Window) -> list[Window]:
        """What lies in the target and was never read, oldest first."""
        rows = await self._database.rows("uncovered", shop_id, stream, target.since, target.until)
        return [Window(row["since"], row["until"]) for row in rows]

    async def ensure(self, shop_id: str, streams: Sequence[str]) -> None:
        """Each stream has a cursor; new ones are due at once."""
        await self._database.run("ensure_cursors", shop_id, list(streams))

    async def cover_whole(self, shop_id: str, stream: str, as_of: datetime) -> None:
        """Everything of a stream without windows is stored as it was at that moment."""
        await self._database.run("cover_whole", shop_id, stream, as_of)

    async def note_attempt(self, shop_id: str, stream: str) -> None:
        await self._database.run("note_attempt", shop_id, stream)

    async def note_success(self, shop_id: str, stream: str, *, due_in_s: float) -> None:
        """The stream worked and is due again after that long."""
        await self._database.run("note_success", shop_id, stream, due_in_s)

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

    async def due_shops(self, streams: Sequence[str], *, at_most: int) -> list[tuple[str, tuple[str, ...]]]:
        """Active shops and their streams that are due, longest waiting first."""
        rows = await self._database.rows("due_shops", list(streams), at_most)
        return [(row["shop_id"], tuple(row["streams"])) for row in rows]

    async def retry_failed(self) -> None:
        """Streams that failed last are due now."""
        await self._database.run("retry_failed")

    async def make_due(self, shop_id: str) -> None:
        """All streams of the shop are due now."""
        await self._database.run("make_due", shop_id)
