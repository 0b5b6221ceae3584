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


class _BrokenClaimError(Exception):
    """The counts of the rest contradict what was taken for proven."""


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
        # Windows cut from one in which rows hide, and how many hid in it.
        self._suspected: dict[Window, int] = {}
        self._readings: list[Reading] = []
        self._heirs: dict[Window, Reading] = {}
        # What TikTok counts and does not show, for whoever asks whether all is there.
        self.doubts: list[str] = []

    def split(self) -> tuple[Window, bool] | None:
        """Half of what the longest walk under way has before it, taken from it, and whether it is live.

        None when there is nothing to gain.
        """
        longest = max(self._readings, key=lambda reading: reading.left, default=None)
        heir = None if longest is None else longest.split()
        if heir is None:
            return None
        self._heirs[heir.window] = heir
        return heir.window, heir.is_live

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
        reading = self._heirs.pop(window, None) or Reading(
            window, window.since, window.until, is_live=account.is_live
        )
        self._readings.append(reading)
        try:
            return await self._walk_until_sure(reading, body, account, closes=closes)
        finally:
            self._readings.remove(reading)
            if not reading.first_count.done():
                reading.first_count.set_result(None)

    async def _walk_until_sure(
        self, reading: Reading, body: BodyOf, account: Account, *, closes: bool
    ) -> list[Window]:
        previous: Walk | None = None
        attempt = 0
        while not (reading.is_done and await self._is_borne_out(reading, 0, account)):
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
                elif attempt >= _CUT_AFTER_WALKS and rest.seconds > 1:
                    # Perhaps tokens do not live as long as this walk takes.
                    return await self._leave(reading, account, rest.cut(2), closes=closes)
                continue
            except _BrokenClaimError:
                account.drop(reading.end())
                continue
            except SliceTooBigError as error:
                return await self._read_in_parts(reading, rest, account, error.total, closes=closes)
            except _OpenEndError as error:
                self._advance(reading, rest, account)
                parts = plan.cut_at(reading.rest, error.closed_until)
                return await self._leave(reading, account, parts, closes=closes)
            verdict = None if reading.until < rest.until else walk.judge(previous)
            hidden = (walk.last_total or 0) - len(walk.seen) if verdict == "stable" else 0
            hides = hidden > 0
            if verdict is not None and not (hides and self._look_closer(reading, hidden)):
                if hides:
                    self._doubt(rest, walk)
                self._settle(account, walk, rest, hides=hides)
                account.keep(walk)
                await self._finish(reading, final_page, account, verdict if closes else None)
                return []
            await self._io.write(final_page, account)
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
            if not reading.first_count.done():
                reading.first_count.set_result(page.total)
            if walk.pages == 1 and not await self._is_borne_out(reading, page.total, account):
                await self._io.write(page, account)
                raise _BrokenClaimError
            # What one page has shown to its end is small, whatever TikTok counts.
            if walk.pages == 1 and step is not Step.END and plan.is_too_big(page.total, window):
                await self._io.write(page, account)
                raise SliceTooBigError("more rows than one walk should read", total=page.total)
            if walk.pages == 1 and step is not Step.END:
                closed_until = plan.settled_until(page.fetched_at, lookback_s=self._lookback_s)
                if window.since + _WORTH_CLOSING < closed_until < window.until:
                    await self._io.write(page, account)
                    raise _OpenEndError(closed_until)
            # A window that can still be cut is, before more is read that proves nothing.
            is_in_vain = walk.is_void and window.seconds > 1
            if step is Step.END or reading.until < window.until or is_in_vain:
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
        rows = account.keep_proven(walk, until=min(walk.proven, reading.until))
        reading.advance(walk, rows=rows)
        return True

    async def _is_borne_out(self, reading: Reading, count: int | None, account: Account) -> bool:
        """False when what was taken for proven is to be read again, for the rest counts too few rows."""
        claim = await reading.bear_out(count)
        if claim is not None:
            account.take_back(claim.rows)
            log.info("proof_taken_back", stream=self._io.stream.name, window=str(reading.rest))
        return claim is None

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

    def _look_closer(self, reading: Reading, hidden: int) -> bool:
        """True when the rest should be cut to find what TikTok counts and does not show."""
        if reading.rest.seconds == 1:
            return False
        # Where cutting has brought some to light it is worth going on, however often.
        if hidden >= self._suspected.pop(reading.window, 0):
            if self._suspicions == 0:
                return False
            self._suspicions -= 1
        self._suspected.update((part, hidden) for part in reading.rest.cut(2))
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
