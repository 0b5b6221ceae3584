"""Seats for the syncs of a process, which a shop that hears nothing lends to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 5.0


class Seats:
    """As many syncs at a time as there are seats, and one more for each that is stalled.

    Without that as many shops as there are seats, all of which hang, would keep every other waiting
    until their requests are given up, which is minutes later. No more than all seats are lent.
    """

    def __init__(self, count: int) -> None:
        self._most_lent = count
        self._free = asyncio.Semaphore(count)
        self._lenders: set[str] = set()
        self._looks: dict[str, asyncio.TimerHandle] = {}

    @property
    def lent(self) -> int:
        """How many seats have a second user."""
        return len(self._lenders)

    @asynccontextmanager
    async def take(self, shop_id: str, *, is_stalled: Callable[[], bool]) -> AsyncIterator[None]:
        """A seat for the shop, for as long as the block runs or until it is lent."""
        await self._free.acquire()
        self._look_later(shop_id, is_stalled)
        try:
            yield
        finally:
            self._looks.pop(shop_id).cancel()
            if shop_id in self._lenders:
                self._lenders.remove(shop_id)
            else:
                self._free.release()

    def _look_later(self, shop_id: str, is_stalled: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        self._looks[shop_id] = loop.call_later(_LOOK_EVERY_S, self._look, shop_id, is_stalled)

    def _look(self, shop_id: str, is_stalled: Callable[[], bool]) -> None:
        if not is_stalled() or self.lent == self._most_lent:
            self._look_later(shop_id, is_stalled)
            return
        self._lenders.add(shop_id)
        self._free.release()
        log.info("seat_lent", shop_id=shop_id, lent=self.lent)
