"""Many small questions as one statement, so that thousands of quiet shops cost few round trips."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from sync.errors import DatabaseGoneError

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_MOST = 500
# In a burst, how long the next ones are gathered. Whoever comes alone does not wait.
_GATHER_S = 0.02


class Together(Generic[_Item, _Answer]):
    """Asks at once when nothing was asked just before; what comes meanwhile goes together next.

    ``work`` answers a list of items in their order. No two items of a list have the same ``key``:
    a statement cannot change one row twice.
    """

    def __init__(
        self,
        work: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer]]],
        *,
        key: Callable[[_Item], Hashable],
    ) -> None:
        self._work = work
        self._key = key
        self._waiting: list[tuple[_Item, asyncio.Future[_Answer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, item: _Item) -> _Answer:
        """The answer to this item. Raises what ``work`` raised for it."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                await self._ask_many(self._take())
                await asyncio.sleep(_GATHER_S)
        finally:
            self._asking = None
            # Not empty only when this task was cancelled: nobody else would answer.
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()

    def _take(self) -> list[tuple[_Item, asyncio.Future[_Answer]]]:
        taken: list[tuple[_Item, asyncio.Future[_Answer]]] = []
        left: list[tuple[_Item, asyncio.Future[_Answer]]] = []
        keys: set[Hashable] = set()
        for item, answer in self._waiting:
            if answer.done():
                continue  # Whoever asked was cancelled.
            if len(taken) < _MOST and (key := self._key(item)) not in keys:
                keys.add(key)
                taken.append((item, answer))
            else:
                left.append((item, answer))
        self._waiting = left
        return taken

    async def _ask_many(self, asked: Sequence[tuple[_Item, asyncio.Future[_Answer]]]) -> None:
        if not asked:
            return
        try:
            answers = await self._work([item for item, _ in asked])
        except asyncio.CancelledError:
            for _, future in asked:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            if len(asked) > 1 and not isinstance(error, DatabaseGoneError):
                # One of them spoils it for all: each for itself, and the fault is its owner's alone.
                for one in asked:
                    await self._ask_many([one])
                return
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            if not future.done():
                future.set_result(answer)
