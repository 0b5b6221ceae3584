"""What every slice needs, whatever its kind: pages asked for, pages written, an end that is noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from sync.engine.api import ShopApi
from sync.engine.requests import StreamProgress
from sync.engine.walk import Walk
from sync.model import Page, Slice, Tally
from sync.store.leases import Lease
from sync.store.ledger import Closing
from sync.store.page_writer import Target
from sync.store.sink import Sink
from sync.streams.base import Body, Stream, WholeList

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Account:
    """What a slice has cost and found so far."""

    started_at: datetime
    progress: StreamProgress
    is_root: bool = False
    is_live: bool = False
    tally: Tally = field(default_factory=Tally)
    shown: int = 0
    distinct_ids: int = 0
    first_total: int | None = None
    last_total: int | None = None
    walks: int = 0
    settled_until: datetime | None = None
    slice_id: int | None = None

    def note(self, tally: Tally) -> None:
        """Counts for the slice and, so that progress is seen at once, for its stream."""
        self.tally.add(tally)
        self.progress.tally.add(tally)

    def show(self, rows: int) -> None:
        """So many rows more, or fewer, count as done."""
        self.shown += rows
        self.progress.done += rows

    def keep(self, walk: Walk) -> None:
        """All that the walk has seen counts, together with what was kept of others."""
        self._keep(len(walk.seen), first=walk.first_total, last=walk.last_total)

    def keep_proven(self, walk: Walk, *, until: datetime) -> int:
        """Only what the walk has proven before that moment counts: so many rows. The rest is read again."""
        rows = walk.rows_before(until)
        self.show(rows - len(walk.seen))
        self._keep(rows, first=rows, last=rows)
        return rows

    def take_back(self, rows: int) -> None:
        """So many rows that were kept as proven do not count: they are read again."""
        self.show(-rows)
        self._keep(-rows, first=-rows, last=-rows)

    def drop(self, walk: Walk) -> None:
        """Nothing that the walk has seen counts as done."""
        self.show(-len(walk.seen))

    def settle(self, until: datetime) -> None:
        """The earliest of all walks counts: the slice is as settled as its least settled part."""
        if self.settled_until is None or until < self.settled_until:
            self.settled_until = until

    def _keep(self, rows: int, *, first: int | None, last: int | None) -> None:
        self.distinct_ids += rows
        if first is not None:
            self.first_total = (self.first_total or 0) + first
        if last is not None:
            self.last_total = (self.last_total or 0) + last


class SliceIO:
    """One stream of one shop, from the API to the tables."""

    def __init__(self, stream: Stream, *, api: ShopApi, sink: Sink, lease: Lease, run_id: int) -> None:
        self.stream = stream
        self._api = api
        self._sink = sink
        self._lease = lease
        self._run_id = run_id
        self._target = Target(
            stream=stream.name,
            statement=stream.statement,
            divisible=not isinstance(stream.slicing, WholeList),
        )

    @property
    def shop_id(self) -> str:
        return self._lease.shop_id

    async def fetch(self, body: Body | None, account: Account, token: str | None = None) -> Page:
        """The page, its requests counted."""
        page, requests = await self._api.fetch(self.stream, body, page_token=token, is_live=account.is_live)
        account.note(Tally(requests=requests))
        return page

    async def write(self, page: Page, account: Account) -> None:
        """The page is stored; the slice stays open."""
        if page.records:
            await self._draw_id(account)
            account.note(
                await self._sink.write(self._target, page, lease=self._lease, slice_id=account.slice_id)
            )

    async def _draw_id(self, account: Account) -> None:
        if account.slice_id is None:
            account.slice_id = await self._sink.draw_slice_id()

    async def wait_until_stored(self) -> None:
        """Returns when no page, of whatever shop, waits for the database."""
        await self._sink.wait_until_idle()

    async def refuse(self, key: str, *, reason: str) -> None:
        """The key is set aside: TikTok refuses to answer for it."""
        await self._sink.refuse(self._target, key, lease=self._lease, reason=reason)

    async def close(
        self, slice_: Slice, page: Page | None, account: Account, *, verdict: str, covers: bool = True
    ) -> None:
        """The page is stored, and in the same transaction the slice is covered and noted."""
        if page is not None and page.records:
            await self._draw_id(account)
        closing = Closing(
            run_id=self._run_id,
            slice_=slice_,
            verdict=verdict,
            started_at=account.started_at,
            settled_until=account.settled_until or account.started_at,
            first_total=account.first_total,
            last_total=account.last_total,
            distinct_ids=account.distinct_ids,
            walks=account.walks,
            tally=account.tally,
            covers=covers,
            slice_id=account.slice_id,
        )
        write = self._sink.write(
            self._target, page, lease=self._lease, closing=closing, slice_id=account.slice_id
        )
        account.note(await write)
        tally = account.tally
        facts = {
            "shop_id": self.shop_id,
            "stream": self.stream.name,
            "slice": str(slice_),
            "verdict": verdict,
            "rows": account.distinct_ids,
            "walks": account.walks,
            "requests": tally.requests,
            "inserted": tally.inserted,
            "updated": tally.updated,
        }
        if verdict == "cut":
            log.info("slice_cut", **facts)
        elif account.is_live and not (tally.inserted or tally.updated or tally.rejected):
            log.debug("slice_covered", **facts)  # Thousands of quiet shops would say so every minute.
        else:
            log.info("slice_covered", **facts)
