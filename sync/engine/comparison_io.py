"""What every comparison needs: TikTok Shop's answers, the copy's side, and a way to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

from sync.clock import utc_now
from sync.engine.api import ShopApi
from sync.engine.run import Run
from sync.model import Page, Record
from sync.store.leases import Lease
from sync.store.ledger import Aside
from sync.store.page_writer import Target
from sync.store.proofs import Books, Proofs
from sync.store.sink import Sink
from sync.streams.base import Body, Stream, WholeList

# Between two answers that must agree before anything passes for vanished.
CONFIRM_AFTER_S = 10.0


class CutShortError(Exception):
    """Somebody else wants the shop: what was compared is kept, the rest is for another time."""


class ComparisonIO:
    """One shop, one request at a time: that is never more than a small share of the shop's pace."""

    def __init__(
        self, *, api: ShopApi, sink: Sink, proofs: Proofs, lease: Lease, run: Run, repairs: bool
    ) -> None:
        self._api = api
        self._sink = sink
        self.proofs = proofs
        self.lease = lease
        self._run = run
        self.repairs = repairs
        self._ending = asyncio.Event()
        self._requests = 0

    @property
    def shop_id(self) -> str:
        return self.lease.shop_id

    def finish(self) -> None:
        """No further request leaves."""
        self._ending.set()

    def take_requests(self) -> int:
        """The requests since this was asked last."""
        taken, self._requests = self._requests, 0
        return taken

    def books(self, census: str) -> Books:
        """The copy's side of a census."""
        return self.proofs.books(self.shop_id, census)

    async def fetch(self, stream: Stream, body: Body | None, token: str | None = None) -> Page:
        """A page, or CutShortError once it is to end."""
        if self._ending.is_set():
            raise CutShortError
        page, requests = await self._api.fetch(stream, body, page_token=token)
        self._requests += requests
        return page

    async def wait_to_confirm(self) -> None:
        """So long that a passing slip of TikTok Shop's is over; CutShortError once it is to end."""
        try:
            async with asyncio.timeout(CONFIRM_AFTER_S):
                await self._ending.wait()
        except TimeoutError:
            return
        raise CutShortError

    async def store(self, stream: Stream, records: Iterable[Record], fetched_at: datetime) -> None:
        """The records are stored as a page of the stream would be, or set aside."""
        kept = tuple(records)
        if kept:
            target = Target(
                stream=stream.name,
                statement=stream.statement,
                divisible=not isinstance(stream.slicing, WholeList),
            )
            page = Page(kept, next_token=None, total=len(kept), fetched_at=fetched_at)
            slice_id = await self._sink.draw_slice_id()
            aside = Aside(slice_id, self._run.run_id, self._run.reason, "repair", started_at=utc_now())
            await self._sink.write(target, page, lease=self.lease, aside=aside)
