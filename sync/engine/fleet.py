"""Many shops in one process: a lease and a pacer for each, and never two syncs of one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import structlog

from sync.engine.api import ShopApi
from sync.engine.pacers import Pacers
from sync.engine.requests import NOTIFICATION, RunReport, StreamProgress, SyncRequest
from sync.engine.seats import Seats
from sync.engine.shop_sync import ShopSync
from sync.engine.tokens import TokenSource
from sync.engine.tools import Tools
from sync.errors import AppError, DatabaseError, DatabaseGoneError, SettingsError, SyncError
from sync.model import Shop
from sync.store.leases import LeaseKeeper
from sync.tiktok.apps import Apps

log = structlog.get_logger(__name__)

# Whoever held the lease before may have used this much of the current second's requests.
_AFTER_TAKEOVER_S = 1.0
_LEASE_RETRY_S = 1.0
# How often a process without a daemon's clock looks for hints of the shops that it syncs.
_LISTEN_EVERY_S = 1.5
# Of the seats of the process, for visits, besides them: single requests that hardly cost anything.
_VISITS_SHARE = 4
_MISCONFIGURED_S = 900.0


@dataclass(slots=True)
class _Visit:
    """A visit that is under way, or waits for its seat."""

    gives_way: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """Syncs shops on request."""

    def __init__(
        self,
        *,
        tools: Tools,
        apps: Apps,
        tokens: TokenSource,
        leases: LeaseKeeper,
    ) -> None:
        self._tools = tools
        self._apps = apps
        self._tokens = tokens
        self._leases = leases
        self._pacers = Pacers(tools.settings.requests_per_second)
        self._running: dict[str, ShopSync] = {}
        self._reserved: set[str] = set()
        self._visits: dict[str, _Visit] = {}
        # Shops to read hints of, once a sync of theirs begins.
        self._rung: set[str] = set()
        self._seats = Seats(tools.settings.parallel_shops)
        self._visit_seats = asyncio.Semaphore(max(1, tools.settings.parallel_shops // _VISITS_SHARE))
        self._stopping = asyncio.Event()

    @property
    def running(self) -> frozenset[str]:
        """The shops that are being synced by this process."""
        return frozenset(self._running)

    @property
    def visited(self) -> frozenset[str]:
        """The shops of which this process does nothing that would not give way."""
        return frozenset(self._visits)

    @property
    def has_room(self) -> bool:
        """False from a write that found the disk of Postgres full until one finds room again."""
        return not self._tools.database.is_full

    @property
    def lent_seats(self) -> int:
        """How many syncs more than usual may run, because as many hear nothing from TikTok Shop."""
        return self._seats.lent

    def is_rung(self, shop_id: str) -> bool:
        """True when hints of the shop were left for its next sync or visit."""
        return shop_id in self._rung

    def ring(self, shop_ids: Iterable[str]) -> list[str]:
        """Shops of which nothing is being read here; the others look at their hints now."""
        idle = []
        for shop_id in shop_ids:
            if (sync := self._running.get(shop_id)) is not None:
                sync.hinted.ring()
            elif shop_id in self._reserved:
                self._rung.add(shop_id)
            else:
                idle.append(shop_id)
        return idle

    async def visit(self, shop_id: str) -> RunReport:
        """What is hinted at of the shop was read; "busy" when another sync has the shop or wanted it."""
        self._rung.add(shop_id)
        return await self.sync(SyncRequest(shop_id, (), reason=NOTIFICATION))

    def give_way(self, shop_id: str) -> None:
        """A visit of the shop, or a comparison, begins nothing more; it ends with what is under way."""
        if (visit := self._visits.get(shop_id)) is not None:
            visit.gives_way = True
            if (sync := self._running.get(shop_id)) is not None:
                sync.give_way()

    async def stop(self) -> None:
        """Nothing new is begun; syncs under way end at their next slice, or are cut short."""
        self._stopping.set()
        for sync in self._running.values():
            sync.stop()

    async def sync(
        self, request: SyncRequest, *, report: RunReport | None = None, wait_for_lease: bool = False
    ) -> RunReport:
        """What became of the request. ``report`` is filled while it runs, for whoever watches.

        With ``wait_for_lease`` it begins when no other process syncs the shop; else the outcome is
        "busy". Raises AppError and DatabaseGoneError, which are not of this shop alone.
        """
        report = report or RunReport(request.shop_id)
        shop_id = request.shop_id
        while not request.gives_way and (visit := self._visits.get(shop_id)) is not None:
            self.give_way(shop_id)
            await visit.ended.wait()
        if shop_id in self._reserved:
            report.outcome = "busy"
            return report
        self._reserved.add(shop_id)
        if request.gives_way:
            self._visits[shop_id] = _Visit()
        try:
            while True:
                # The seat is given back while another process syncs the shop: others may use it.
                async with self._take_seat(request):
                    was_full = not self.has_room
                    await self._sync(request, report)
                    if was_full and report.outcome in ("complete", "incomplete"):
                        # Whoever waits longest comes first, and that is who found no room.
                        self._tools.database.is_full = False
                again = wait_for_lease and report.outcome in ("busy", "stopped")
                if not again or self._stopping.is_set():
                    return report
                # Stopped: the lease was lost, perhaps with a restart of Postgres. Busy: the other
                # process lets go without a sign, and at once if it is only there for hints.
                report.problems.clear()
                with suppress(DatabaseError):
                    await self._tools.hints.want(shop_id)
                await asyncio.sleep(_LEASE_RETRY_S)
        finally:
            self._reserved.discard(shop_id)
            if request.gives_way:
                ended = self._visits.pop(shop_id)
                report.outcome = "busy" if ended.gives_way else report.outcome
                ended.ended.set()

    def _take_seat(self, request: SyncRequest) -> AbstractAsyncContextManager[None]:
        def is_stalled() -> bool:
            return (sync := self._running.get(request.shop_id)) is not None and sync.is_stalled

        if request.gives_way:
            return self._visit_seats
        return self._seats.take(request.shop_id, is_stalled=is_stalled)

    async def _sync(self, request: SyncRequest, report: RunReport) -> None:
        visit = self._visits.get(request.shop_id)
        if visit is not None and visit.gives_way:
            return
        shop = await self._find(request.shop_id, report)
        if shop is None or self._stopping.is_set():
            report.outcome = "failed" if shop is None else "stopped"
            return
        try:
            app = self._apps.get(shop.app)
        except SettingsError as error:
            await self._postpone(request, report, error)
            return
        lease = await self._leases.acquire(shop.shop_id)
        report.outcome = "busy" if lease is None else "complete"
        if lease is None:
            return
        pacer = self._pacers.of(lease)
        if lease.taken_over:
            pacer.pause(_AFTER_TAKEOVER_S)
        note_cipher = self._tools.shops.note_cipher
        api = ShopApi(shop, app=app, tokens=self._tokens, pacer=pacer, lease=lease, note_cipher=note_cipher)
        sync = ShopSync(shop, request, tools=self._tools, api=api, lease=lease, report=report)
        sync.hinted.is_crowded = self._visit_seats.locked
        self._running[shop.shop_id] = sync
        if self._stopping.is_set():
            sync.stop()  # The wish came while the lease was taken.
        if visit is not None and visit.gives_way:
            sync.give_way()
        if shop.shop_id in self._rung:
            self._rung.discard(shop.shop_id)
            sync.hinted.ring()
        try:
            await sync.run()
        finally:
            self._running.pop(shop.shop_id, None)
            if sync.hinted.is_rung:
                self._rung.add(shop.shop_id)
            lease.learned_rate = pacer.learned_rate
            await self._leases.release(lease)

    async def _postpone(self, request: SyncRequest, report: RunReport, error: SettingsError) -> None:
        """The shop's app is not in the settings: its streams wait, so that others get their turn."""
        report.outcome = "failed"
        report.problems.append(str(error))
        await self._tools.hints.drop(request.shop_id)
        for stream in request.streams:
            await self._tools.cursors.note_failure(
                request.shop_id, stream, error=str(error), due_in_s=_MISCONFIGURED_S, parked_reason=None
            )

    async def sync_all(
        self,
        requests: Sequence[SyncRequest],
        *,
        reports: Sequence[RunReport],
        wait_for_lease: bool = False,
    ) -> None:
        """Every request was tried; the reports, in the same order, tell what became of each.

        Raises AppError when not one shop was let in by TikTok Shop, and DatabaseGoneError at once.
        """
        refusals: list[AppError] = []
        listening = asyncio.create_task(self._listen(), name="hints for running syncs")
        try:
            async with asyncio.TaskGroup() as group:
                for request, report in zip(requests, reports, strict=True):
                    group.create_task(self._sync_guarded(request, report, wait_for_lease, refusals))
        except* DatabaseGoneError as errors:
            gone: BaseException = errors.exceptions[0]
        else:
            if refusals and all(report.outcome == "failed" for report in reports):
                raise refusals[0]
            return
        finally:
            listening.cancel()
        raise gone

    async def _listen(self) -> None:
        """Hints that other processes hear reach the syncs that run here."""
        while True:
            await asyncio.sleep(_LISTEN_EVERY_S)
            with suppress(DatabaseError):
                hinted = await self._tools.hints.shops()
                self.ring(shop_id for shop_id in hinted if shop_id in self._running)

    async def _sync_guarded(
        self, request: SyncRequest, report: RunReport, wait_for_lease: bool, refusals: list[AppError]
    ) -> None:
        try:
            await self.sync(request, report=report, wait_for_lease=wait_for_lease)
        except AppError as error:
            refusals.append(error)  # The shops of another app may be welcome.
        except DatabaseGoneError:
            raise
        except SyncError as error:
            report.outcome = "failed"
            report.problems.append(str(error))
        except Exception as error:
            # The outermost loop of a shop: a fault of ours must not stop the other shops.
            log.exception("sync_crashed", shop_id=request.shop_id)
            report.crash(error)

    async def _find(self, shop_id: str, report: RunReport) -> Shop | None:
        row = await self._tools.shops.find(shop_id)
        if row is None:
            report.problems.append(f"shop {shop_id} is not connected")
            return None
        shop = row.shop
        report.name = shop.name
        if shop.state not in ("active", "inactive"):
            report.problems.append(f"shop {shop_id} is {shop.state}: {row.state_reason or 'no reason given'}")
            return None
        return shop


def new_report(request: SyncRequest, name: str = "") -> RunReport:
    """An empty report with a place for each stream, so that a watcher sees them from the start."""
    return RunReport(
        request.shop_id, name=name, streams={stream: StreamProgress() for stream in request.streams}
    )
