"""The clean walk: how it is known that paging through live data missed nothing.

Page tokens may be plain offsets. A row that leaves the window while it is paged shifts the rest by
one, and one row is never shown. Rows may only leave a window of past update time, never enter it,
so a walk during which the count stayed the same and equalled the different ids seen has missed
nothing. Where pages come in the order of update time, the same holds for each page: while the
count stands still and pages are full, everything before the last row's second has been shown. A
walk that is disturbed then goes on from there instead of from its beginning. Pure: pages in,
verdicts out.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import pairwise

from sync.model import Page, Record, Window, epoch

_EMPTY_RETRIES = 2
_SPARE_PAGES = 20
_MOST_PAGES = 100_000


class Step(Enum):
    """What to ask for after a page."""

    NEXT = auto()
    AGAIN = auto()
    END = auto()


class Walk:
    """One pass through the pages of a slice, from the first to the last.

    ``ordered`` is the window of a walk whose pages hold ``page_size`` rows in the order of their
    update time, if what the platform says of them is true.
    """

    def __init__(self, ordered: Window | None = None, *, page_size: int | None = None) -> None:
        self._bounds = None if ordered is None else (epoch(ordered.since), epoch(ordered.until))
        self._since_s = 0 if ordered is None else epoch(ordered.since)
        self._page_size = page_size
        # Update times of the rows that came in order, on full pages, while the count stood still.
        self._times = array("q")
        self._tokens: set[str] = set()
        self._empties = 0
        self._barren = 0
        self._is_cut_short = False
        self.pages = 0
        self.seen: set[str] = set()
        self.started_at: datetime | None = None
        self.first_total: int | None = None
        self.last_total: int | None = None

    @property
    def proven(self) -> datetime | None:
        """Everything of the window before this moment has been shown; None when that is unknown, or nothing.

        Even before a first page of a single second: that there was nothing is known then.
        """
        if not self._times or self._times[-1] <= self._since_s:
            return None
        return datetime.fromtimestamp(self._times[-1], UTC)

    @property
    def proven_rows(self) -> int:
        """How many rows stand before the proven moment."""
        return bisect_left(self._times, self._times[-1]) if self._times else 0

    def rows_before(self, moment: datetime) -> int:
        """How many rows stand before a moment that is not later than the proven one."""
        return bisect_left(self._times, epoch(moment))

    @property
    def rows_in_order(self) -> int:
        """How many rows came in order, those of the last second included."""
        return len(self._times)

    @property
    def is_void(self) -> bool:
        """True when the count has moved: this walk as a whole can prove nothing any more."""
        return None not in (self.first_total, self.last_total) and self.first_total != self.last_total

    def take(self, page: Page) -> Step:
        """What to do after this page. Never leads into a loop."""
        if self.pages == 0:
            self.first_total = page.total
            self.started_at = page.fetched_at
        self.pages += 1
        self.last_total = page.total
        seen_before = len(self.seen)
        self.seen.update(_identity(record) for record in page.records)
        self._barren += len(self.seen) == seen_before
        self._prove(page, new=len(self.seen) - seen_before)
        if page.next_token is None:
            return Step.END
        if self.last_total != self.first_total and self.proven is not None:
            # Disturbed: what comes now would have to be read again anyway.
            self._is_cut_short = True
            return Step.END
        if page.next_token in self._tokens or self._is_long_enough():
            self._is_cut_short = True
            return Step.END
        if not page.records:
            # Seen in production both ways: a tail of empty pages without end, and a page that is
            # empty by mistake. Asking again tells them apart, the count decides the rest.
            self._empties += 1
            if self._empties <= _EMPTY_RETRIES:
                return Step.AGAIN
            if page.total is None or len(self.seen) >= page.total:
                return Step.END
        self._empties = 0
        self._tokens.add(page.next_token)
        return Step.NEXT

    def judge(self, previous: Walk | None) -> str | None:
        """The verdict that closes the slice, or None when the walk proves nothing.

        ``previous`` is the walk of the same slice before this one. Where the API counts wrongly,
        two walks that saw the very same rows under the same count are proof enough that nothing
        moved; where it does not count, two that saw the very same rows. "Nothing new" would not do: a
        row is skipped when one that was shown has left, and the same may be skipped twice.
        """
        if self.first_total is not None and self.first_total == self.last_total == len(self.seen):
            return "clean"
        if self._is_cut_short:
            # It ended before TikTok said so: what lies behind is unknown, however often it ends there.
            return None
        if self.last_total is None or self.first_total is None:
            # One page is one state, but one without rows may be an answer that went wrong.
            is_one_state = self.pages == 1 and self.seen
            if is_one_state or (previous is not None and self.seen == previous.seen):
                return "exhausted"
            return None
        if (
            previous is not None
            and self.seen == previous.seen
            and self.first_total == self.last_total == previous.first_total == previous.last_total
        ):
            return "stable"
        return None

    def _prove(self, page: Page, *, new: int) -> None:
        """Moves on what is proven; the first page in doubt ends that for the rest of the walk."""
        if self._bounds is None:
            return
        times = [record.time for record in page.records if record.time is not None]
        reached = self._times[-1] if self._times else self._bounds[0]
        if (
            page.total is not None
            and page.total == self.first_total
            and new == len(times) == self._page_size
            and all(a <= b for a, b in pairwise([reached, *times]))
            and times[-1] < self._bounds[1]
        ):
            self._times.extend(times)
        else:
            self._bounds = None

    def _is_long_enough(self) -> bool:
        """True when more pages than rows were shown, and some to spare. Pages may be smaller than asked."""
        most = _MOST_PAGES if self.last_total is None else self.last_total + 1 + _SPARE_PAGES
        return self._barren > _SPARE_PAGES or self.pages >= min(_MOST_PAGES, most)


def _identity(record: Record) -> str:
    return record.key or hashlib.sha256(record.raw).hexdigest()
