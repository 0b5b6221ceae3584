"""One slice from its first request to the transaction that closes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from sync.clock import utc_now
from sync.engine import plan
from sync.engine.api import ShopApi
from sync.engine.requests import StreamProgress
from sync.engine.walk import Step, Walk
from sync.errors import BadRequestError, PageTokenError, SliceError, SliceTooBigError
from sync.model import Batch, Page, Slice, Tally, Whole, Window
from sync.store.leases import Lease
from sync.store.ledger import Closing
from sync.store.sink import Sink, Target
from sync.streams.base import Body, ParentKeys, Stream, TimeWindows, WholeList

log = structlog.get_logger(__name__)

# Walks of a window that cannot be cut any more. Rows only leave it, so it comes to rest.
_MOST_WALKS = 8
# From this walk on, a window that keeps moving is read in parts instead.
_CUT_AFTER_WALKS = 2
# Windows that are cut because TikTok counts more than it shows: enough to find where some rows are
# hidden, and an end where it counts wrongly everywhere.
_MOST_SUSPICIONS = 200
_CLOCK_GRAIN = timedelta(seconds=2)


@dataclass(slots=True)
class _Account:
    """What a slice has cost and found so far."""

    started_at: datetime
    progress: StreamProgress
    tally: Tally = field(default_factory=Tally)
    shown: int = 0
    distinct_ids: int = 0
    first_total: int | None = None
    last_total: int | None = None
    walks: int = 0
    settled_until: datetime | None = None

    def note(self, tally: Tally) -> None:
        """Counts for the slice and, so that progress is seen at once, for its stream."""
        self.tally.add(tally)
        self.progress.tally.add(tally)

    def show(self, rows: int) -> None:
        """So many rows more, or fewer, count as done."""
        self.shown += rows
        self.progress.done += rows

    def close_walk(self, walk: Walk) -> None:
        """The walk's counts join those of the slice's other walks that are kept."""
        self.distinct_ids += len(walk.seen)
        if walk.first_total is not None:
            self.first_total = (self.first_total or 0) + walk.first_total
        if walk.last_total is not None:
            self.last_total = (self.last_total or 0) + walk.last_total

    def settle(self, until: datetime) -> None:
        """The earliest of all walks counts: the slice is as settled as its least settled part."""
        if self.settled_until is None or until < self.settled_until:
            self.settled_until = until


class SliceSync:
    """Reads slices of one stream of one shop into the tables."""

    def __init__(
        self, stream: Stream, *, api: ShopApi, sink: Sink, lease: Lease, run_id: int, lookback_s: float
    ) -> None:
        self._stream = stream
        self._api = api
        self._sink = sink
        self._lease = lease
        self._run_id = run_id
        self._lookback_s = lookback_s
        self._suspicions = _MOST_SUSPICIONS
        # What TikTok counts and does not show, for whoever asks whether all is there.
        self.doubts: list[str] = []
        self._target = Target(
            stream=stream.name,
            statement=stream.statement,
            divisible=not isinstance(stream.slicing, WholeList),
        )

    async def sync(self, slice_: Slice, progress: StreamProgress, *, is_root: bool) -> Sequence[Slice]:
        """The slices to read instead; none when this one is stored and closed.

        ``progress`` grows while it runs; a root slice also adds TikTok's first count of it to what
        is expected. Raises SliceError when the slice must be left for another time.
        """
        account = _Account(started_at=utc_now(), progress=progress)
        parts: Sequence[Slice] = ()
        is_done = False
        try:
            if isinstance(slice_, Window):
                parts = await self._sync_window(slice_, account, is_root=is_root)
            elif isinstance(slice_, Batch):
                parts = await self._sync_batch(slice_, account)
            else:
                await self._sync_whole(slice_, account)
            is_done = not parts or isinstance(slice_, Batch)
        finally:
            if not is_done:
                account.show(-account.shown)
        return parts

    async def _sync_window(self, window: Window, account: _Account, *, is_root: bool) -> list[Window]:
        if not isinstance(self._stream.slicing, TimeWindows):
            raise TypeError(f"{self._stream.name} has no windows")
        *others, last = self._stream.slicing.bodies(window)
        for body in others:
            parts = await self._walk_until_sure(window, body, account, is_root=is_root, closes=False)
            if parts:
                return parts
        return await self._walk_until_sure(window, last, account, is_root=is_root, closes=True)

    async def _walk_until_sure(
        self, window: Window, body: Body, account: _Account, *, is_root: bool, closes: bool
    ) -> list[Window]:
        previous: Walk | None = None
        for attempt in range(1, _MOST_WALKS + 1):
            account.walks += 1
            walk = Walk()
            try:
                final_page = await self._walk(window, body, walk, account, counts=is_root and attempt == 1)
            except PageTokenError as error:
                account.show(-len(walk.seen))
                log.info("walk_restarted", stream=self._stream.name, window=str(window), reason=str(error))
                continue
            except SliceTooBigError as error:
                return await self._cut(window, account, walk, error.total)
            verdict = walk.judge(previous)
            hides = verdict == "stable" and len(walk.seen) < (walk.last_total or 0)
            if verdict is not None and not (hides and self._look_closer(window)):
                if hides:
                    self._doubt(window, walk)
                account.settle(self._settled_until(window, walk, hides=hides))
                await self._finish(window, final_page, account, walk, verdict if closes else None)
                return []
            await self._write(final_page, account)
            account.show(-len(walk.seen))
            if hides or (attempt >= _CUT_AFTER_WALKS and window.seconds > 1):
                return await self._cut(window, account, walk, walk.last_total)
            previous = walk
        raise SliceError(
            f"{self._stream.name} {window} kept changing through {_MOST_WALKS} walks; it is read again later"
        )

    def _look_closer(self, window: Window) -> bool:
        """True when the window should be cut to find what TikTok counts and does not show."""
        if window.seconds == 1 or self._suspicions == 0:
            return False
        self._suspicions -= 1
        return True

    def _doubt(self, window: Window, walk: Walk) -> None:
        doubt = f"TikTok Shop counts {walk.last_total} and shows {len(walk.seen)} in {window}"
        self.doubts.append(f"{self._stream.name}: {doubt}")
        log.warning("rows_hidden", shop_id=self._lease.shop_id, stream=self._stream.name, reason=doubt)

    def _settled_until(self, window: Window, walk: Walk, *, hides: bool) -> datetime:
        """Until when the window needs no second look, by the clock of its walk's first answer."""
        if walk.started_at is None:
            raise RuntimeError("a walk without a page has no verdict")
        if window.until > walk.started_at + _CLOCK_GRAIN:
            raise SliceError(
                f"{self._stream.name} {window} ends in TikTok Shop's future: the clock was wrong when it was "
                "planned; it is planned again"
            )
        if hides and window.seconds == 1:
            return window.since  # A second that hides rows is looked at again each round.
        return plan.settled_until(walk.started_at, lookback_s=self._lookback_s)

    async def _walk(self, window: Window, body: Body, walk: Walk, account: _Account, *, counts: bool) -> Page:
        """The last page, not yet written; all before it are."""
        token: str | None = None
        while True:
            page = await self._fetch(body, account, token)
            if walk.pages == 0 and counts:
                account.progress.expected += page.total or 0
            if walk.pages == 0 and plan.is_too_big(page.total, window):
                await self._write(page, account)
                raise SliceTooBigError("more rows than one walk should read", total=page.total)
            seen = len(walk.seen)
            step = walk.take(page)
            account.show(len(walk.seen) - seen)
            if step is Step.END:
                return page
            await self._write(page, account)
            if step is Step.NEXT:
                token = page.next_token

    async def _cut(self, window: Window, account: _Account, walk: Walk, total: int | None) -> list[Window]:
        if window.seconds == 1:
            raise SliceError(
                f"{self._stream.name} {window}: TikTok Shop does not show all records of this one second"
            )
        parts = plan.cut(window, total)
        await self._finish(window, None, account, walk, "cut", covers=False)
        return parts

    async def _sync_batch(self, batch: Batch, account: _Account) -> list[Batch]:
        if not isinstance(self._stream.slicing, ParentKeys):
            raise TypeError(f"{self._stream.name} has no parent keys")
        walk = Walk()
        account.walks = 1
        try:
            page = await self._fetch(self._stream.slicing.body(batch.keys), account, None)
        except (BadRequestError, SliceTooBigError) as error:
            if len(batch.keys) > 1:
                # One key may spoil the answer for all: the halves find it.
                middle = len(batch.keys) // 2
                return [replace(batch, keys=keys) for keys in (batch.keys[:middle], batch.keys[middle:])]
            await self._sink.refuse(self._target, batch.keys[0], lease=self._lease, reason=str(error))
            return []
        walk.take(page)
        account.show(len(walk.seen))
        await self._finish(batch, page, account, walk, "whole")
        unanswered = tuple(key for key in batch.keys if key not in walk.seen)
        if unanswered and not batch.is_retry:
            # Perhaps gone since they were listed, perhaps left out by mistake: asking again tells.
            return [Batch(unanswered, is_retry=True)]
        if unanswered:
            log.info("keys_unanswered", stream=self._stream.name, keys=len(unanswered))
        return []

    async def _sync_whole(self, whole: Whole, account: _Account) -> None:
        walk = Walk()
        account.walks = 1
        page = await self._fetch(None, account, None)
        walk.take(page)
        account.progress.expected += len(walk.seen)
        account.show(len(walk.seen))
        await self._finish(whole, page, account, walk, "whole")

    async def _fetch(self, body: Body | None, account: _Account, token: str | None) -> Page:
        page, requests = await self._api.fetch(self._stream, body, page_token=token)
        account.note(Tally(requests=requests))
        return page

    async def _write(self, page: Page, account: _Account) -> None:
        if page.records:
            account.note(await self._sink.write(self._target, page, lease=self._lease))

    async def _finish(
        self,
        slice_: Slice,
        page: Page | None,
        account: _Account,
        walk: Walk,
        verdict: str | None,
        *,
        covers: bool = True,
    ) -> None:
        """The page is written; with a verdict its transaction also closes the slice."""
        account.close_walk(walk)
        if verdict is None:
            if page is not None:
                await self._write(page, account)
            return
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
        )
        account.note(await self._sink.write(self._target, page, lease=self._lease, closing=closing))
        log.info(
            "slice_cut" if verdict == "cut" else "slice_covered",
            shop_id=self._lease.shop_id,
            stream=self._stream.name,
            slice=str(slice_),
            verdict=verdict,
            rows=account.distinct_ids,
            walks=account.walks,
            requests=account.tally.requests,
            inserted=account.tally.inserted,
            updated=account.tally.updated,
        )
