"""A window from its first request to the transaction that covers it, however it moves meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sync.engine import plan
from sync.engine.reading import Reading
from sync.engine.slice_io import Account, SliceIO
from sync.engine.walk import Step, Walk
from sync.errors import PageTokenError, SliceError, SliceTooBigError
from sync.model import Page, Window
from sync.streams.base import BodyOf, TimeWindows

log = structlog.get_logger(__name__)

# Walks in a row that prove nothing. Rows only leave a window, so it comes to rest.
_MOST_WALKS = 8
# From this walk on, a window that keeps moving is read in parts instead.
_CUT_AFTER_WALKS = 2
# Windows that are cut because TikTok counts more than it shows: enough to find where some rows are
# hidden, and an end where it counts wrongly everywhere.
_MOST_SUSPICIONS = 200
_CLOCK_GRAIN = timedelta(seconds=2)
# What has closed since the window was planned is worth a walk of its own only when it is longer.
_WORTH_CLOSING = timedelta(seconds=5)


class _OpenEndError(Exception):
    """More than a page of rows, and late ones may still enter the end of the window."""

    def __init__(self, closed_until: datetime) -> None:
        super().__init__()
        self.closed_until = closed_until


class WindowSync:
    """Reads windows of one stream of one shop into the tables."""

    def __init__(
        self, io: SliceIO, slicing: TimeWindows, *, lookback_s: float, has_moved: Callable[[], None]
    ) -> None:
        self._io = io
        # Called when a walk has gone on: whoever looks for work may find it worth sharing by now.
        self._has_moved = has_moved
        self._slicing = slicing
        self._lookback_s = lookback_s
        self._suspicions = _MOST_SUSPICIONS
        self._readings: list[Reading] = []
        # What TikTok counts and does not show, for whoever asks whether all is there.
        self.doubts: list[str] = []

    def split(self) -> tuple[Window, bool] | None:
        """Half of what the longest walk under way has before it, taken from it, and whether it is live.

        None when there is nothing to gain.
        """
        longest = max(self._readings, key=lambda reading: reading.left, default=None)
        part = None if longest is None else longest.split()
        return None if longest is None or part is None else (part, longest.is_live)

    async def sync(self, window: Window, account: Account) -> list[Window]:
        """The windows to read instead; none when this one is stored and covered.

        Raises SliceError when it must be left for another time.
        """
        *others, last = self._slicing.bodies
        for body in others:
            parts = await self._read(window, body, account, closes=False)
            if parts:
                return parts
        return await self._read(window, last, account, closes=True)

    async def _read(self, window: Window, body: BodyOf, account: Account, *, closes: bool) -> list[Window]:
        reading = Reading(window, window.since, window.until, is_live=account.is_live)
        self._readings.append(reading)
        try:
            return await self._walk_until_sure(reading, body, account, closes=closes)
        finally:
            self._readings.remove(reading)

    async def _walk_until_sure(
        self, reading: Reading, body: BodyOf, account: Account, *, closes: bool
    ) -> list[Window]:
        previous: Walk | None = None
        attempt = 0
        while not reading.is_done:
            rest = reading.rest
            if attempt == _MOST_WALKS:
                raise SliceError(
                    f"{self._io.stream.name} {rest} kept changing through {_MOST_WALKS} walks; "
                    "it is read again later"
                )
            attempt += 1
            account.walks += 1
            walk = reading.begin(self._make_walk(reading))
            try:
                final_page = await self._walk(reading, rest, body, account)
            except PageTokenError as error:
                log.info("walk_restarted", stream=self._io.stream.name, window=str(rest), reason=str(error))
                if self._advance(reading, rest, account):
                    attempt, previous = 0, None
                continue
            except SliceTooBigError as error:
                return await self._read_in_parts(reading, rest, account, error.total, closes=closes)
            except _OpenEndError as error:
                self._advance(reading, rest, account)
                parts = plan.cut_at(reading.rest, error.closed_until)
                return await self._leave(reading, account, parts, closes=closes)
            verdict = None if reading.until < rest.until else walk.judge(previous)
            hides = verdict == "stable" and len(walk.seen) < (walk.last_total or 0)
            if verdict is not None and not (hides and self._look_closer(rest)):
                if hides:
                    self._doubt(rest, walk)
                self._settle(account, walk, rest, hides=hides)
                account.keep(walk)
                await self._finish(reading, final_page, account, verdict if closes else None)
                return []
            await self._io.write(final_page, account)
            reading.trusts_counts = reading.trusts_counts and not walk.has_miscounted
            if self._advance(reading, rest, account):
                attempt, previous = 0, None
            elif hides or (attempt >= _CUT_AFTER_WALKS and rest.seconds > 1):
                return await self._leave(reading, account, rest.cut(2), closes=closes)
            else:
                previous = walk
        await self._finish(reading, None, account, "clean" if closes else None)
        return []

    def _make_walk(self, reading: Reading) -> Walk:
        if self._slicing.is_ordered and reading.trusts_counts:
            return Walk(reading.rest, page_size=self._io.stream.page_size)
        return Walk()

    async def _walk(self, reading: Reading, window: Window, body: BodyOf, account: Account) -> Page:
        """The page after which the walk has ended, not yet written; all before it are."""
        walk = reading.walk
        if walk is None:
            raise RuntimeError("a window is walked only while its reading has begun")
        token: str | None = None
        while True:
            page = await self._io.fetch(body(window), account, token)
            if account.is_root:
                account.progress.expected += page.total or 0
                account.is_root = False
            seen = len(walk.seen)
            step = walk.take(page)
            account.show(len(walk.seen) - seen)
            # What one page has shown to its end is small, whatever TikTok counts.
            if walk.pages == 1 and step is not Step.END and plan.is_too_big(page.total, window):
                await self._io.write(page, account)
                raise SliceTooBigError("more rows than one walk should read", total=page.total)
            if walk.pages == 1 and step is not Step.END:
                closed_until = plan.settled_until(page.fetched_at, lookback_s=self._lookback_s)
                if window.since + _WORTH_CLOSING < closed_until < window.until:
                    await self._io.write(page, account)
                    raise _OpenEndError(closed_until)
            if step is Step.END or reading.until < window.until:
                return page
            await self._io.write(page, account)
            if step is Step.NEXT:
                token = page.next_token
            self._has_moved()

    def _advance(self, reading: Reading, walked: Window, account: Account) -> bool:
        """What the walk has proven counts and is not read again; False when it has proven nothing."""
        walk = reading.end()
        if walk.proven is None or not reading.trusts_counts:
            account.drop(walk)
            return False
        self._settle(account, walk, walked)
        reading.since = min(walk.proven, reading.until)
        account.keep_proven(walk, until=reading.since)
        return True

    async def _read_in_parts(
        self, reading: Reading, walked: Window, account: Account, total: int | None, *, closes: bool
    ) -> list[Window]:
        """Too many rows for one walk: its page is kept as far as it proves something."""
        walk, rows_per_s = reading.walk, reading.rows_per_s
        if walk is None:
            raise RuntimeError("what is too big has been looked at by a walk")
        if not self._advance(reading, walked, account) and walked.seconds == 1:
            raise SliceError(
                f"{self._io.stream.name} {walked}: TikTok Shop does not show all records of this one second"
            )
        rows = None if total is None else total - walk.proven_rows
        parts = plan.cut(reading.rest, rows, rows_per_s=rows_per_s)
        return await self._leave(reading, account, parts, closes=closes)

    async def _leave(
        self, reading: Reading, account: Account, parts: list[Window], *, closes: bool
    ) -> list[Window]:
        """The parts are to be read instead of the rest; what stands before it is covered."""
        if closes and reading.since > reading.window.since:
            proven = Window(reading.window.since, reading.since)
            await self._io.close(proven, None, account, verdict="clean")
        else:
            await self._io.close(reading.window, None, account, verdict="cut", covers=False)
        return parts

    async def _finish(
        self, reading: Reading, page: Page | None, account: Account, verdict: str | None
    ) -> None:
        """The page is written; with a verdict its transaction also closes the slice."""
        reading.walk = None  # What is being closed is not to be shared out any more.
        window = Window(reading.window.since, reading.until)
        if verdict is not None:
            await self._io.close(window, page, account, verdict=verdict)
        elif page is not None:
            await self._io.write(page, account)

    def _look_closer(self, window: Window) -> bool:
        """True when the window should be cut to find what TikTok counts and does not show."""
        if window.seconds == 1 or self._suspicions == 0:
            return False
        self._suspicions -= 1
        return True

    def _doubt(self, window: Window, walk: Walk) -> None:
        doubt = f"TikTok Shop counts {walk.last_total} and shows {len(walk.seen)} in {window}"
        self.doubts.append(f"{self._io.stream.name}: {doubt}")
        log.warning("rows_hidden", shop_id=self._io.shop_id, stream=self._io.stream.name, reason=doubt)

    def _settle(self, account: Account, walk: Walk, window: Window, *, hides: bool = False) -> None:
        """The account knows until when the window needs no second look, by the walk's first answer."""
        if walk.started_at is None:
            raise RuntimeError("a walk without a page proves nothing")
        if window.until > walk.started_at + _CLOCK_GRAIN:
            raise SliceError(
                f"{self._io.stream.name} {window} ends in TikTok Shop's future: the clock was wrong when it "
                "was planned; it is planned again"
            )
        settled_until = plan.settled_until(walk.started_at, lookback_s=self._lookback_s)
        if hides and window.seconds == 1:
            account.settle(window.since)  # A second that hides rows is looked at again each round.
        elif walk.pages > 1 and window.until > settled_until:
            # A late row that entered the end may have made up for one that left: the count stood
            # still, and yet a row between two pages was not shown.
            account.settle(window.since)
        else:
            account.settle(settled_until)
