"""All streams of one shop, under its lease, as one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import structlog

from sync.engine import plan
from sync.engine.api import ShopApi
from sync.engine.hinted_reads import HintedReads
from sync.engine.requests import RunReport, StreamProgress, SyncRequest
from sync.engine.run import Run
from sync.engine.slice_sync import SliceSync
from sync.engine.stream_sync import Pace, Round, StreamSync
from sync.engine.timing import due_in_s, spread
from sync.engine.tools import Tools
from sync.engine.verification import Verification
from sync.engine.widest import widest
from sync.errors import (
    AppError,
    DatabaseError,
    DatabaseGoneError,
    DatabaseRefusedError,
    FencedOutError,
    ShopError,
    StreamError,
    SyncError,
)
from sync.model import Shop, Window
from sync.store.leases import Lease
from sync.streams.base import Stream, TimeWindows
from sync.streams.registry import select_streams

log = structlog.get_logger(__name__)

_LONGEST_BACKOFF_S = 3600.0
_PARKED_S = 3600.0
_INACTIVE_S = 86400.0
_REFUSED_S = 900.0
_STOP_GRACE_S = 12.0
_MOST_PROBLEMS = 20


class ShopSync:
    """One run of one shop."""

    def __init__(
        self, shop: Shop, request: SyncRequest, *, tools: Tools, api: ShopApi, lease: Lease, report: RunReport
    ) -> None:
        self._shop = shop
        self._request = request
        cursors = tools.cursors.under(lease)
        self._tools = replace(tools, cursors=cursors)
        self._api = api
        self._lease = lease
        self._report = report
        self._stopping = asyncio.Event()
        self._run = Run(request, runs=tools.runs, lease=lease)
        self.hinted = HintedReads(
            api=api,
            sink=tools.sink,
            hints=tools.hints,
            cursors=cursors,
            lease=lease,
            run=self._run,
            report=report,
        )
        self._verification: Verification | None = None
        if request.verify is not None:
            self._verification = Verification(
                request.verify, api=api, tools=tools, lease=lease, run=self._run, results=report.proofs
            )

    @property
    def is_stalled(self) -> bool:
        """True while TikTok Shop has not answered well for long."""
        return self._api.is_stalled

    def stop(self) -> None:
        """No new slice is begun; those under way may end."""
        self._stopping.set()
        self.give_way()

    def give_way(self) -> None:
        """What hints name is read to the end of what is under way, and so is a comparison."""
        self.hinted.finish()
        if self._verification is not None:
            self._verification.finish()

    async def run(self) -> None:
        """The report tells what became of the request. Raises errors wider than the shop as they are."""
        await self._run.begin()
        try:
            error = await self._sync()
            await self._run.end(self._report)
        except SyncError:
            raise
        except Exception as fault:
            # Due again at once it would crash again at once, and always before the other shops.
            self._report.crash(fault)
            with suppress(DatabaseError):
                await self._postpone(self._report.problems[-1], _REFUSED_S)
                await self._run.end(self._report)
            raise
        finally:
            self._run.stop_timer()
        if isinstance(error, (AppError, DatabaseGoneError)):
            raise error

    async def _sync(self) -> SyncError | None:
        """The error that ended the sync before its time, if one did."""
        error: SyncError | None = None
        try:
            streams = self._request.streams
            await self._run_streams(select_streams(streams) if streams else ())
        except* SyncError as group:
            error = widest(group)
        if error is not None:
            self._report.problems.insert(0, str(error))
            self._report.outcome = "stopped" if isinstance(error, FencedOutError) else "failed"
            if isinstance(error, ShopError):
                log.error("shop_parked", shop_id=self._shop.shop_id, state=error.state, reason=str(error))
                await self._tools.shops.note_state(self._shop.shop_id, error.state, reason=str(error))
            if not isinstance(error, (FencedOutError, DatabaseError)):
                await self._postpone(str(error), _INACTIVE_S if isinstance(error, ShopError) else _REFUSED_S)
        elif self._report.problems:
            self._report.outcome = "incomplete"
        elif self._shop.state == "inactive" and self._request.streams:
            await self._tools.shops.note_state(self._shop.shop_id, "active", reason=None)
        return error

    async def _run_streams(self, streams: tuple[Stream, ...]) -> None:
        round_ = Round(
            unfinished={s.name for s in streams},
            stopping=self._stopping,
            first_pass_done={s.name: asyncio.Event() for s in streams},
        )
        stop = asyncio.create_task(self._enforce_stop(asyncio.current_task()))
        try:
            if not self._api.clock.is_known:
                await self._api.learn_clock()
            now = self._api.clock.now()
            async with asyncio.TaskGroup() as aside:
                aside.create_task(self.hinted.run(lingers=self._request.is_visit), name="hinted reads")
                async with asyncio.TaskGroup() as group:
                    for stream in streams:
                        progress = self._report.streams.setdefault(stream.name, StreamProgress())
                        progress.finished = False
                        group.create_task(self._run_stream(stream, round_, progress, now), name=stream.name)
                    if self._verification is not None:
                        group.create_task(self._verification.run(), name="comparison")
                if not self._request.is_visit:
                    self.hinted.finish()
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            # Cancelled by ourselves, once the grace was over.
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
        finally:
            stop.cancel()
        if self._stopping.is_set():
            self._report.outcome = "stopped"

    async def _enforce_stop(self, run: asyncio.Task[None] | None) -> None:
        await self._stopping.wait()
        await asyncio.sleep(_STOP_GRACE_S)
        if run is not None:
            run.cancel()

    async def _run_stream(
        self, stream: Stream, round_: Round, progress: StreamProgress, now: datetime
    ) -> None:
        cursors, shop_id = self._tools.cursors, self._shop.shop_id
        await cursors.note_attempt(shop_id, stream.name)
        try:
            failures, asked_at = await self._try_stream(stream, round_, progress, now)
        except* (StreamError, DatabaseError) as group:
            if gone := group.subgroup(DatabaseGoneError):
                raise gone from None
            await self._note_refusal(stream, widest(group))
        else:
            await self._note_outcome(stream, failures, asked_at)
        finally:
            progress.finished = True
            round_.finish(stream.name)

    async def _note_refusal(self, stream: Stream, error: SyncError) -> None:
        """The stream waits, and says why; parked if waiting alone will not help."""
        if not isinstance(error, (StreamError, DatabaseRefusedError)):
            await self._note_failures(stream, [f"{stream.name}: {error}"])
            return
        self._report.problems.append(f"{stream.name}: {error}")
        log.warning("stream_parked", shop_id=self._shop.shop_id, stream=stream.name, reason=str(error))
        await self._tools.cursors.note_failure(
            self._shop.shop_id, stream.name, error=str(error), due_in_s=_PARKED_S, parked_reason=str(error)
        )

    async def _try_stream(
        self, stream: Stream, round_: Round, progress: StreamProgress, now: datetime
    ) -> tuple[list[str], datetime]:
        """What failed, and the moment up to which the last pass was to read.

        A failed pass is planned again as often as the request allows.
        """
        since = self._request.since or self._tools.settings.history_start
        for attempt in range(self._request.passes):
            if attempt:
                await asyncio.sleep(2**attempt)
                now = self._api.clock.now()
            sync = self._make_stream_sync(stream, round_, progress)
            # What is left is counted anew, after a lost lease as after a failed pass.
            progress.expected = progress.done
            await sync.run(since, self._request.until, now=now)
            if not sync.failures or self._stopping.is_set():
                break
        self._report.problems += sync.doubts[:_MOST_PROBLEMS]
        return sync.failures, now

    def _make_stream_sync(self, stream: Stream, round_: Round, progress: StreamProgress) -> StreamSync:
        settings = self._tools.settings

        def make_slices(has_moved: Callable[[], None]) -> SliceSync:
            return SliceSync(
                stream,
                api=self._api,
                sink=self._tools.sink,
                lease=self._lease,
                run_id=self._run.run_id,
                lookback_s=settings.lookback_s,
                has_moved=has_moved,
            )

        return StreamSync(
            stream,
            make_slices=make_slices,
            cursors=self._tools.cursors,
            database=self._tools.database,
            pacer=self._api.pacer,
            shop_id=self._shop.shop_id,
            pace=Pace(
                settle_s=settings.settle_s,
                lookback_s=settings.lookback_s,
                interval_s=settings.intervals.of(stream.name),
                parallel=settings.parallel_slices,
            ),
            round_=round_,
            progress=progress,
        )

    async def _note_outcome(self, stream: Stream, failures: list[str], now: datetime) -> None:
        cursors, shop_id = self._tools.cursors, self._shop.shop_id
        if self._stopping.is_set():
            return
        if not failures and isinstance(stream.slicing, TimeWindows):
            failures = [f"{stream.name} {gap} is not stored yet" for gap in await self._missing(stream, now)]
        if failures:
            await self._note_failures(stream, failures)
            rejects = await cursors.count_rejects(shop_id, stream.name)
        else:
            wait_s = due_in_s(shop_id, self._tools.settings.intervals.of(stream.name), now=time.time())
            rejects = await cursors.note_success(shop_id, stream.name, due_in_s=wait_s)
        if rejects:
            # They block nothing, but whoever asks whether all is there must hear of them.
            self._report.problems.append(
                f"{stream.name}: {rejects} records could not be stored; sync.rejects has them and why"
            )

    async def _note_failures(self, stream: Stream, failures: list[str]) -> None:
        """The stream is tried again, the later the more often it failed in a row."""
        cursors, shop_id = self._tools.cursors, self._shop.shop_id
        self._report.problems += failures[:_MOST_PROBLEMS]
        failed_before = await cursors.failures(shop_id, stream.name)
        delay_s = min(self._tools.settings.intervals.of(stream.name) * 2.0**failed_before, _LONGEST_BACKOFF_S)
        await cursors.note_failure(
            shop_id, stream.name, error=failures[0], due_in_s=spread(delay_s), parked_reason=None
        )

    async def _missing(self, stream: Stream, now: datetime) -> list[Window]:
        """What was asked for and is not covered. Asked of Postgres: memory may be wrong."""
        since = self._request.since or self._tools.settings.history_start
        end = plan.horizon(now, settle_s=self._tools.settings.settle_s)
        until = min(self._request.until or end, end)
        if since >= until:
            return []
        return await self._tools.cursors.uncovered(self._shop.shop_id, stream.name, Window(since, until))

    async def _postpone(self, reason: str, wait_s: float) -> None:
        """Every stream waits: what stopped the shop would stop it again at once."""
        for stream in self._request.streams:
            await self._tools.cursors.note_failure(
                self._shop.shop_id, stream, error=reason, due_in_s=spread(wait_s), parked_reason=None
            )
