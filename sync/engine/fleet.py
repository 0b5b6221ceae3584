"""Many shops in one process: a lease and a pacer for each, and never two syncs of one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from sync.engine.api import ShopApi
from sync.engine.requests import RunReport, StreamProgress, SyncRequest
from sync.engine.shop_sync import ShopSync, Tools
from sync.engine.tokens import TokenSource
from sync.errors import AppError, DatabaseError, SettingsError, SyncError
from sync.model import Shop
from sync.store.leases import Lease, LeaseKeeper
from sync.tiktok.client import AppKeys, Client
from sync.tiktok.limiter import Pacer

log = structlog.get_logger(__name__)

# Whoever held the lease before may have used this much of the current second's requests.
_AFTER_TAKEOVER_S = 1.0
_LEASE_RETRY_S = 1.0


class Fleet:
    """Syncs shops on request."""

    def __init__(
        self,
        *,
        tools: Tools,
        client: Client,
        tokens: TokenSource,
        leases: LeaseKeeper,
        keys_of: Callable[[str], AppKeys],
    ) -> None:
        self._tools = tools
        self._client = client
        self._tokens = tokens
        self._leases = leases
        self._keys_of = keys_of
        # Kept for the life of the process: what a pacer has learnt outlasts a run.
        self._pacers: dict[str, Pacer] = {}
        self._running: dict[str, ShopSync] = {}
        self._reserved: set[str] = set()
        self._seats = asyncio.Semaphore(tools.settings.parallel_shops)
        self._stopping = asyncio.Event()

    @property
    def running(self) -> frozenset[str]:
        """The shops that are being synced by this process."""
        return frozenset(self._running)

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
        "busy". Raises AppError, DatabaseError and SettingsError: they are not of this shop alone.
        """
        report = report or RunReport(request.shop_id)
        if request.shop_id in self._reserved:
            report.outcome = "busy"
            return report
        self._reserved.add(request.shop_id)
        try:
            async with self._seats:
                await self._sync(request, report, wait_for_lease=wait_for_lease)
                while wait_for_lease and report.outcome == "stopped" and not self._stopping.is_set():
                    # The lease was lost, perhaps with a restart of Postgres; what is stored stays.
                    report.problems.clear()
                    await self._sync(request, report, wait_for_lease=True)
        finally:
            self._reserved.discard(request.shop_id)
        return report

    async def _sync(self, request: SyncRequest, report: RunReport, *, wait_for_lease: bool) -> None:
        shop = await self._find(request.shop_id, report)
        if shop is None or self._stopping.is_set():
            report.outcome = "failed" if shop is None else "stopped"
            return
        lease = await self._take_lease(shop, report, wait=wait_for_lease)
        if lease is None:
            return
        pacer = self._pacers.setdefault(shop.shop_id, Pacer(self._tools.settings.requests_per_second))
        if lease.taken_over:
            pacer.pause(_AFTER_TAKEOVER_S)
        try:
            api = ShopApi(
                shop,
                client=self._client,
                keys=self._keys_of(shop.app),
                tokens=self._tokens,
                pacer=pacer,
                lease=lease,
            )
            sync = ShopSync(shop, request, tools=self._tools, api=api, lease=lease, report=report)
            self._running[shop.shop_id] = sync
            await sync.run()
        finally:
            self._running.pop(shop.shop_id, None)
            await self._leases.release(lease)

    async def _take_lease(self, shop: Shop, report: RunReport, *, wait: bool) -> Lease | None:
        lease = await self._leases.acquire(shop.shop_id)
        while lease is None and wait and not self._stopping.is_set():
            report.outcome = "busy"
            await asyncio.sleep(_LEASE_RETRY_S)  # Another process lets go of it without a sign.
            lease = await self._leases.acquire(shop.shop_id)
        report.outcome = "busy" if lease is None else "complete"
        return lease

    async def sync_all(
        self,
        requests: Sequence[SyncRequest],
        *,
        reports: Sequence[RunReport],
        wait_for_lease: bool = False,
    ) -> None:
        """Every request was tried; the reports, in the same order, tell what became of each.

        An error that no single shop can be blamed for ends them all and is raised.
        """
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for request, report in zip(requests, reports, strict=True):
                    group.create_task(self._sync_guarded(request, report, wait_for_lease))
        except* (AppError, DatabaseError, SettingsError) as errors:
            failure = errors.exceptions[0]
        if failure is not None:
            raise failure

    async def _sync_guarded(self, request: SyncRequest, report: RunReport, wait_for_lease: bool) -> None:
        try:
            await self.sync(request, report=report, wait_for_lease=wait_for_lease)
        except SyncError:
            raise
        except Exception as error:
            # The outermost loop of a shop: a fault of ours must not stop the other shops.
            log.exception("sync_crashed", shop_id=request.shop_id)
            report.outcome = "failed"
            report.problems.append(f"a fault in shopsync itself ({type(error).__name__}); the log has more")

    async def _find(self, shop_id: str, report: RunReport) -> Shop | None:
        rows = await self._tools.shops.list([shop_id])
        if not rows:
            report.problems.append(f"shop {shop_id} is not connected")
            return None
        shop = rows[0].shop
        report.name = shop.name
        if shop.state not in ("active", "inactive"):
            report.problems.append(
                f"shop {shop_id} is {shop.state}: {rows[0].state_reason or 'no reason given'}"
            )
            return None
        return shop


def new_report(request: SyncRequest, name: str = "") -> RunReport:
    """An empty report with a place for each stream, so that a watcher sees them from the start."""
    return RunReport(
        request.shop_id, name=name, streams={stream: StreamProgress() for stream in request.streams}
    )
