"""Values that many ask for at once and that are dear to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sync.errors import DatabaseError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[_T]):
    """A value and when it was read, on the monotonic clock."""

    value: _T
    read_at: float

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.read_at


class SharedReading(Generic[_T]):
    """Reads a value once for all who ask together, and keeps it for a while.

    Nobody who stops waiting cancels the reading: a query that is cancelled on a dead connection
    can hang longer than the query itself, and the next one who asks needs the value too.
    """

    def __init__(self, read: Callable[[], Awaitable[_T]], *, keep_s: float) -> None:
        self._read = read
        self._keep_s = keep_s
        self._task: asyncio.Task[Reading[_T]] | None = None
        self._latest: Reading[_T] | None = None
        self._failed_at: float | None = None
        self._is_outdated = False

    async def get(self, *, timeout_s: float) -> Reading[_T]:
        """The value, at most ``keep_s`` old.

        Raises DatabaseError when it takes too long, or what reading raised.
        """
        if self._latest is not None and self._latest.age_s < self._keep_s:
            return self._latest
        task = self._start()
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise DatabaseError(f"Postgres did not answer within {timeout_s:g} s")
        return task.result()

    async def look(self, *, timeout_s: float) -> Reading[_T] | None:
        """The last value that was read, however old, or None; a stale one is read again meanwhile.

        Waits for the first value only. After a failure nothing is tried for ``keep_s``.
        """
        failed_lately = self._failed_at is not None and time.monotonic() - self._failed_at < self._keep_s
        is_stale = self._latest is None or self._latest.age_s >= self._keep_s
        if is_stale and not failed_lately:
            task = self._start()
            if self._latest is None:
                await asyncio.wait({task}, timeout=timeout_s)
        return self._latest

    def forget(self) -> None:
        """Whoever asks next gets a value that was read from now on."""
        self._latest = None
        self._is_outdated = True

    async def close(self) -> None:
        """No reading is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> asyncio.Task[Reading[_T]]:
        if self._task is None:
            self._task = asyncio.create_task(self._read_once())
            self._task.add_done_callback(self._end)
        return self._task

    async def _read_once(self) -> Reading[_T]:
        while True:
            self._is_outdated = False
            started = time.monotonic()
            reading = Reading(await self._read(), started)
            if not self._is_outdated:  # Else it was forgotten while it was read, and may be too old.
                self._latest = reading
                return reading

    def _end(self, task: asyncio.Task[Reading[_T]]) -> None:
        self._task = None
        # Asking for the exception also marks it as seen: whoever waited may have given up.
        failed = task.cancelled() or task.exception() is not None
        self._failed_at = time.monotonic() if failed else None
