"""The daemon's clock: every second Postgres is asked what is due, and the fleet does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sync.engine.fleet import Fleet
from sync.engine.requests import DUE, SyncRequest
from sync.errors import DatabaseError, SyncError
from sync.jobs.comparisons import Comparisons
from sync.jobs.upkeep import Upkeep
from sync.jobs.visits import Visits
from sync.store.cursors import Cursors

log = structlog.get_logger(__name__)

TICK_S = 1
_STOP_S = 18.0
_REFILL_BELOW = 0.75
# How often a single sync is begun while the disk of Postgres is full, to see whether it still is.
_PROBE_EVERY_S = 10.0


@contextmanager
def ringing(bell: asyncio.Event, *, every_s: float) -> Iterator[None]:
    """Sets ``bell`` at once and then every ``every_s`` seconds, for as long as the block runs.

    The scheduler goes by the wall clock. One that is set back would silence it for as long as that.
    """

    async def ring() -> None:
        bell.set()

    async def watch() -> None:
        while True:
            await asyncio.sleep(every_s)
            now = datetime.now(UTC)
            if job.next_run_time - now > timedelta(seconds=2 * every_s):
                job.modify(next_run_time=now)

    scheduler = AsyncIOScheduler(
        timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )
    scheduler.add_listener(_note_scheduler_event, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
    job = scheduler.add_job(ring, "interval", seconds=every_s, next_run_time=datetime.now(UTC))
    scheduler.start()
    watching = asyncio.create_task(watch(), name="watch over the clock")
    try:
        yield
    finally:
        watching.cancel()
        # Shutting down cancels what was handed to the loop and has not begun, and logs it as an
        # error. A paused scheduler hands over nothing more, and the loop takes turns in order.
        scheduler.pause()
        scheduler.shutdown(wait=False)


class LocalJobs:
    """Keeps every shop up to date until told to stop.

    APScheduler only rings: it skips, shifts and forgets runs, so what is due is decided by the
    due times in Postgres, and the ring does no more than wake the loop. While more is due than there
    is room for, the syncs that end wake it too.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        cursors: Cursors,
        streams: tuple[str, ...],
        tick_s: float = TICK_S,
        most_at_once: int,
        visits: Visits | None = None,
        comparisons: Comparisons | None = None,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._fleet = fleet
        self._cursors = cursors
        self._streams = streams
        self._tick_s = tick_s
        self._most_at_once = most_at_once
        self._visits = visits
        self._comparisons = comparisons
        self._upkeep = upkeep
        self._look_at = 0.0
        self._probe_at = 0.0
        self._ring = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._more_is_due = False
        self.is_healthy = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Returns after ``stopping`` is set and every sync under way has ended or was cut short."""
        watch = asyncio.create_task(self._wake_on(stopping))
        try:
            with ringing(self._ring, every_s=self._tick_s):
                while not stopping.is_set():
                    await self._ring.wait()
                    self._ring.clear()
                    if not stopping.is_set():
                        await self._start_due()
                        await self._look_aside()
            left = self._close()
            await self._fleet.stop()
            if left:
                await asyncio.wait(left, timeout=_STOP_S)
        finally:
            watch.cancel()
            await self._cut_short()

    async def _wake_on(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._ring.set()

    async def _start_due(self) -> None:
        room = self._count_room()
        if room <= 0:
            return
        visited = self._fleet.visited
        running = (self._fleet.running - visited) | {task.get_name() for task in self._tasks}
        try:
            due = await self._cursors.due_shops(
                self._streams, at_most=room, besides=sorted(running), visited=sorted(visited)
            )
        except DatabaseError as error:
            self.is_healthy = False
            self._more_is_due = False
            log.error("database_unreachable", reason=str(error))
            return
        self.is_healthy = True
        self._more_is_due = len(due) == room
        for shop_id, streams in due:
            request = SyncRequest(shop_id, streams, reason=DUE)
            task = asyncio.create_task(self._sync(request), name=shop_id)
            self._tasks.add(task)
            task.add_done_callback(self._note_end)

    def _count_room(self) -> int:
        """How many syncs may begin."""
        if self._fleet.has_room:
            self._probe_at = 0.0
            return self._most_at_once + self._fleet.lent_seats - len(self._tasks)
        now = asyncio.get_running_loop().time()
        if now < self._probe_at:
            return 0
        self._probe_at = now + _PROBE_EVERY_S
        return 1

    async def _look_aside(self) -> None:
        """For what is not a round, at each ring of the clock; syncs that end ring more often."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at or not self._fleet.has_room:
            return
        self._look_at = now + self._tick_s / 2
        try:
            for one in (self._visits, self._comparisons, self._upkeep):
                if one is not None:
                    await one.look()
        except DatabaseError as error:
            if self.is_healthy:  # Else it was said already.
                log.error("database_unreachable", reason=str(error))

    def _close(self) -> list[asyncio.Task[None]]:
        """Nothing begins any more. All that has not ended, of any kind."""
        aside = [one.close() for one in (self._visits, self._comparisons) if one is not None]
        return [*self._tasks, *(task for tasks in aside for task in tasks)]

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._visits is not None and self._fleet.is_rung(task.get_name()):
            self._visits.begin(task.get_name())
        # A few at a time: asking for each single one would cost more than its sync.
        if self._more_is_due and len(self._tasks) <= self._most_at_once * _REFILL_BELOW:
            self._ring.set()

    async def _sync(self, request: SyncRequest) -> None:
        try:
            await self._fleet.sync(request)
        except SyncError as error:
            log.error("sync_failed", shop_id=request.shop_id, reason=str(error))
        except Exception:
            # The outermost loop of a shop: a fault of ours must not stop the other shops.
            log.exception("sync_crashed", shop_id=request.shop_id)

    async def _cut_short(self) -> None:
        """No sync is left, whatever ended the daemon: the connections they use close next."""
        left = self._close()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _note_scheduler_event(event: Any) -> None:
    log.error("clock_missed", job=str(event.job_id), reason=str(getattr(event, "exception", "") or "missed"))
