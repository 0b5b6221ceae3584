"""One run of a shop in the book-keeping: a row and a line in the log, if it has anything to tell."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog

from sync import metrics
from sync.engine.requests import QUIET, RunReport, SyncRequest
from sync.errors import DatabaseError
from sync.store.leases import Lease
from sync.store.runs import Runs

log = structlog.get_logger(__name__)

# A round that takes longer has a row, whatever it finds.
_LASTS_S = 10.0


class Run:
    """Begun when the lease is held, ended with the report. ``run_id`` is known in between.

    A round that was due gets its row from its first slice that changes anything, when it lasts, or
    at its end if that is not plain success; a quiet one gets none. So does a visit.
    """

    def __init__(self, request: SyncRequest, *, runs: Runs, lease: Lease) -> None:
        self._request = request
        self._runs = runs
        self._lease = lease
        self._began = time.monotonic()
        self._is_shown = request.reason not in QUIET
        self._timer: asyncio.TimerHandle | None = None
        self._late_row: asyncio.Task[None] | None = None
        self.run_id = 0

    @property
    def reason(self) -> str:
        """Why the run was made."""
        return self._request.reason

    async def begin(self) -> None:
        """Runs of the shop that dead processes left open are closed, and this one has its id."""
        if self._is_shown:
            self.run_id = await self._runs.begin(self._lease, reason=self._request.reason)
            return
        self.run_id = await self._runs.reserve(self._lease)
        self._timer = asyncio.get_running_loop().call_later(_LASTS_S, self._show_late)

    async def end(self, report: RunReport) -> None:
        """What became of the run is noted, counted and logged."""
        metrics.RUNS.labels(report.outcome).inc()
        self.stop_timer()
        if self._late_row is not None:
            await self._late_row
        tally = report.tally
        problems = "; ".join(report.problems[:3]) or None
        is_quiet = not (
            self._is_shown
            or problems
            or report.outcome != "complete"
            or tally.inserted + tally.updated + tally.stale + tally.rejected
        )
        if not is_quiet:
            if not self._is_shown:
                await self._show()
            await self._runs.end(self.run_id, outcome=report.outcome, error=problems, tally=tally)
        facts = {
            "shop_id": report.shop_id,
            "reason": self._request.reason,
            "outcome": report.outcome,
            "requests": tally.requests,
        } | ({} if problems is None else {"problems": problems})
        if is_quiet:
            log.debug("run_ended", **facts)
        else:
            log.info("run_ended", **facts)

    async def _show(self) -> None:
        age_s = time.monotonic() - self._began
        await self._runs.show(self.run_id, self._lease, reason=self._request.reason, age_s=age_s)
        self._is_shown = True

    def _show_late(self) -> None:
        self._late_row = asyncio.create_task(self._show_if_possible(), name="late row of a run")

    async def _show_if_possible(self) -> None:
        # The end of the run tries again, and is the one to say so.
        with suppress(DatabaseError):
            await self._show()

    def stop_timer(self) -> None:
        """The run gets no row any more but by its end."""
        if self._timer is not None:
            self._timer.cancel()
