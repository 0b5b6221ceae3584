"""One stream of one shop: its gaps become slices, and slices run side by side while it helps."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import structlog

from sync.engine import plan
from sync.engine.requests import StreamProgress
from sync.engine.slice_sync import SliceSync
from sync.errors import RequestError, SliceError
from sync.model import Batch, Slice, Whole, Window, epoch, whole_second
from sync.store.cursors import Cursors
from sync.store.pool import Database
from sync.streams.base import ParentKeys, Stream, TimeWindows
from sync.tiktok.limiter import Pacer

log = structlog.get_logger(__name__)

# One turn of the loop takes as long as all that is ready to run, which is nothing in an idle process
# however busy the machine is. And how long a walk is held back for that, at the most.
_BUSY_S = 0.015
_LONGEST_HOLD_S = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that a stream follows: seconds, and walks in flight."""

    settle_s: float
    lookback_s: float
    interval_s: float
    parallel: int


@dataclass(slots=True)
class Round:
    """What the streams of a run know of each other, and whether to stop."""

    unfinished: set[str]
    stopping: asyncio.Event
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    first_pass_done: dict[str, asyncio.Event] = field(default_factory=dict)

    def finish(self, stream: str) -> None:
        """Everything that was asked for of the stream is read, or given up."""
        self.unfinished.discard(stream)
        self.first_pass_done[stream].set()
        self.changed.set()


@dataclass(frozen=True, slots=True)
class _Task:
    """A slice in the queue. A root's count is expected work; a live one is of the newest plan."""

    slice_: Slice
    is_root: bool = False
    is_live: bool = False


class StreamSync:
    """Reads one stream up to its horizon, newest first, and again while other streams still read."""

    def __init__(
        self,
        stream: Stream,
        *,
        make_slices: Callable[[Callable[[], None]], SliceSync],
        cursors: Cursors,
        database: Database,
        pacer: Pacer,
        shop_id: str,
        pace: Pace,
        round_: Round,
        progress: StreamProgress,
    ) -> None:
        self._stream = stream
        self._cursors = cursors
        self._database = database
        self._pacer = pacer
        self._shop_id = shop_id
        self._pace = pace
        self._round = round_
        self._progress = progress
        self._queue: list[tuple[int, int, _Task]] = []
        # Slices of the newest plan that are not closed: until they are, planning again would only
        # read the same again.
        self._live = 0
        self._order = count()
        self._active = 0
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._slices = make_slices(self._wake.set)
        # The moment of which a sweep under way tells the state; streams with windows have none.
        self._swept: datetime | None = None
        self.failures: list[str] = []

    @property
    def doubts(self) -> list[str]:
        """What TikTok counts and does not show, window by window."""
        return self._slices.doubts

    async def run(self, since: datetime, until: datetime | None, *, now: datetime) -> None:
        """What is to be read of [since, until) has been read; ``failures`` names what was not.

        Without ``until`` the end is now, and moves on as long as other streams are still reading.
        Raises the errors of wider scopes as they are.
        """
        started = time.monotonic()
        moving = until is None
        end = plan.horizon(now, settle_s=self._pace.settle_s)
        if until is not None:
            end = min(end, until)
        await self._wait_for_parent()
        await self._plan(since, end)
        async with asyncio.TaskGroup() as group:
            planned: float | None = started
            due = started + self._pace.interval_s
            while not self._round.stopping.is_set():
                if not self._queue and not self._active and self._is_passing():
                    # Before anything is planned again: what takes longer than the interval would
                    # be due again whenever it ends, and so never end.
                    await self._finish_pass()
                if self._is_at_rest() and planned is not None:
                    # Where the news take longer than the interval, history gets as much time as they do.
                    due = max(due, 2 * time.monotonic() - planned)
                    planned = None
                if self._is_at_rest() and time.monotonic() >= due and moving and self._round.unfinished:
                    # What is new comes first: it stands before history in the queue.
                    elapsed = timedelta(seconds=time.monotonic() - started)
                    newer = plan.horizon(now + elapsed, settle_s=self._pace.settle_s)
                    overlap = whole_second(end - timedelta(seconds=self._pace.lookback_s))
                    await self._plan(max(since, overlap), newer, is_live=True)
                    end = max(end, newer)
                    planned = time.monotonic()
                    due = planned + self._pace.interval_s
                is_awaited = moving and self._is_at_rest() and self._round.unfinished
                until_due = due if is_awaited else None
                if self._active < self._pace.parallel and await self._start_next(group, until=until_due):
                    continue
                if self._active:
                    await self._wait(self._wake, until=until_due)
                elif moving and self._round.unfinished:
                    await self._wait(self._round.changed, until=due)
                else:
                    break

    def _is_passing(self) -> bool:
        """True while a sweep, or the first reading of all that was asked for, is not noted as over."""
        return self._swept is not None or self._stream.name in self._round.unfinished

    def _is_at_rest(self) -> bool:
        """True when nothing of the newest plan is left, and no sweep is half done."""
        return self._live == 0 and self._swept is None

    async def _wait_for_parent(self) -> None:
        slicing = self._stream.slicing
        if isinstance(slicing, ParentKeys) and slicing.after in self._round.first_pass_done:
            await self._round.first_pass_done[slicing.after].wait()

    async def _plan(self, since: datetime, until: datetime, *, is_live: bool = False) -> None:
        """The queue holds what is to be read."""
        slicing = self._stream.slicing
        if isinstance(slicing, TimeWindows):
            if since < until:
                for gap in await self._cursors.gaps(self._shop_id, self._stream.name, Window(since, until)):
                    # What follows on something stored is news, too, and not history.
                    is_news = gap.since > since and gap.until == until
                    self._push(_Task(gap, is_root=True, is_live=is_live or is_news))
            return
        self._swept = until
        if isinstance(slicing, ParentKeys):
            rows = await self._database.rows(slicing.keys, self._shop_id)
            keys = [str(row[0]) for row in rows]
            self._progress.expected += len(keys)
            for start in range(0, len(keys), slicing.size):
                self._push(_Task(Batch(tuple(keys[start : start + slicing.size])), is_live=True))
        else:
            self._push(_Task(Whole(), is_live=True))

    async def _finish_pass(self) -> None:
        if self._swept is not None and not self.failures:
            await self._cursors.cover_whole(self._shop_id, self._stream.name, self._swept)
        self._swept = None
        self._progress.finished = True
        self._round.finish(self._stream.name)

    def _push(self, task: _Task) -> None:
        # Newest first, so that dashboards fill from today backwards.
        rank = -epoch(task.slice_.until) if isinstance(task.slice_, Window) else 0
        self._live += task.is_live
        heapq.heappush(self._queue, (rank, next(self._order), task))

    async def _start_next(self, group: asyncio.TaskGroup, *, until: float | None) -> bool:
        """Starts a slice if there is one, and there is room for it; True when it is time to look again.

        What is queued comes before the walks under way are asked to share. The first slice at a
        time needs no room: others may keep the database busy for ever.
        """
        if self._active:
            room = asyncio.create_task(self._wait_for_room())
            try:
                await self._wait(self._ended, until=until, room=room)
                if not room.done() or self._round.stopping.is_set() or not self._active:
                    return True
            finally:
                room.cancel()
        if self._queue:
            _, _, task = heapq.heappop(self._queue)
        elif (shared := self._slices.split()) is not None:
            part, is_live = shared
            task = _Task(part, is_live=is_live)
            self._live += is_live
        else:
            return False
        self._active += 1
        group.create_task(self._sync(task))
        # Its first request shows at the pacer about then; deciding earlier would start too many.
        await asyncio.sleep(1 / self._pacer.rate)
        return True

    async def _wait_for_room(self) -> None:
        """Returns when more walks at a time would read more, not just each of them slower.

        They would not while requests wait for the pacer, pages for the database, or everything for
        this process.
        """
        await self._pacer.wait_until_idle()
        await self._slices.wait_until_stored()
        loop = asyncio.get_running_loop()
        until = loop.time() + _LONGEST_HOLD_S
        asked = loop.time()
        await asyncio.sleep(0)
        while asked + _BUSY_S < loop.time() < until:
            await asyncio.sleep(_BUSY_S)
            asked = loop.time()
            await asyncio.sleep(0)

    async def _sync(self, task: _Task) -> None:
        try:
            parts = await self._slices.sync(
                task.slice_, self._progress, is_root=task.is_root, is_live=task.is_live
            )
        except (SliceError, RequestError) as error:
            log.warning("slice_left", shop_id=self._shop_id, stream=self._stream.name, reason=str(error))
            self.failures.append(f"{self._stream.name} {task.slice_}: {error}")
        else:
            for part in parts:
                self._push(_Task(part, is_live=task.is_live))
        finally:
            self._active -= 1
            self._live -= task.is_live
            self._wake.set()
            self._ended.set()

    async def _wait(
        self, event: asyncio.Event, *, until: float | None, room: asyncio.Task[None] | None = None
    ) -> None:
        """Until the event, the time, the wish to stop, or room; whatever came first."""
        event.clear()
        waits = [asyncio.ensure_future(e.wait()) for e in (event, self._round.stopping)]
        try:
            timeout_s = None if until is None else max(0.0, until - time.monotonic())
            more = [] if room is None else [room]
            await asyncio.wait([*waits, *more], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
