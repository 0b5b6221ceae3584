"""Shops that are read out of turn: as soon as a notification comes, or when open orders have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog

from sync.engine.fleet import Fleet
from sync.errors import SyncError
from sync.store.hints import Hints

log = structlog.get_logger(__name__)

# Where shops are given a place in the slow round, and what nobody needs any more is forgotten.
_UPKEEP_EVERY_S = 60.0
# As long as another process that waits for a shop says so.
_GIVE_WAY_S = 3.0


class Visits:
    """Starts visits, and makes them give way to other processes.

    ``round_s`` is the time in which every open order is read again; 0 switches that off.
    """

    def __init__(self, *, fleet: Fleet, hints: Hints, round_s: float) -> None:
        self._fleet = fleet
        self._hints = hints
        self._round_s = round_s
        self._upkeep_at = 0.0
        self._gave_way: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_open = True

    def begin(self, shop_id: str) -> None:
        """Hints of the shop are read at once, beside a sync that runs here or by a visit."""
        is_idle = bool(self._fleet.ring([shop_id])) and shop_id not in self._tasks
        if is_idle and self._is_open and time.monotonic() >= self._gave_way.get(shop_id, 0.0):
            task = asyncio.create_task(self._visit(shop_id), name=f"visit of {shop_id}")
            self._tasks[shop_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(shop_id, None))

    def close(self) -> Iterable[asyncio.Task[None]]:
        """No visit begins any more; the answer is those that have not ended."""
        self._is_open = False
        return tuple(self._tasks.values())

    async def look(self) -> None:
        """One look for all shops: who has hints that nobody rang for, and whose open orders have their turn.

        Raises DatabaseError.
        """
        if self._round_s:
            await self._hints.take_turns(round_s=self._round_s)
        for shop_id, is_held in (await self._hints.shops()).items():
            if not is_held or shop_id in self._fleet.running:
                self.begin(shop_id)
        if visited := self._fleet.visited:
            for shop_id in await self._hints.wanted(sorted(visited)):
                self._gave_way[shop_id] = time.monotonic() + _GIVE_WAY_S
                self._fleet.give_way(shop_id)
        await self._keep_up()

    async def _keep_up(self) -> None:
        now = time.monotonic()
        if now < self._upkeep_at:
            return
        self._upkeep_at = now + _UPKEEP_EVERY_S
        self._gave_way = {shop_id: until for shop_id, until in self._gave_way.items() if until > now}
        await self._hints.forget()
        if self._round_s:
            await self._hints.begin_rereads(round_s=self._round_s)

    async def _visit(self, shop_id: str) -> None:
        try:
            # Again when the bell rang in the very moment in which it ended.
            while (await self._fleet.visit(shop_id)).outcome == "complete":
                if not self._is_open or not self._fleet.is_rung(shop_id):
                    return
        except SyncError as error:
            log.error("sync_failed", shop_id=shop_id, reason=str(error))
        except Exception:
            # The outermost loop of a shop: a fault of ours must not stop the other shops.
            log.exception("sync_crashed", shop_id=shop_id)
