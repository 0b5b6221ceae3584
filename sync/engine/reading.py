"""A window while it is read: how far it is proven, where it ends, and what is left of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from sync.engine import plan
from sync.engine.walk import Walk
from sync.model import Window

# A split costs about half a page, so it must spare several.
_WORTH_SPLITTING = 400
_MOST_BROKEN_CLAIMS = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """What a walk that ended early said of its window: it proved ``rows``, and ``behind`` stand behind them.

    The walk began at ``since``.
    """

    since: datetime
    rows: int
    behind: int


@dataclass(eq=False, slots=True)
class Reading:
    """One window on its way from asked for to covered.

    Everything before ``since`` is proven. ``until`` moves back when another walk takes over the
    end; the walk under way notices after its next page. ``trusts_counts`` is over when TikTok's
    counts have contradicted what it showed: then nothing short of a whole walk proves anything.

    Pages prove only if the count is honest and no row hides between two of them. A walk to the end
    tells, for then count and rows must agree. One that ends before makes a ``claim`` instead, which
    the first counts of those who read on have to bear out: of this reading, and of the ``heir`` that
    took over the end.
    """

    window: Window
    since: datetime
    until: datetime
    is_live: bool = False
    walk: Walk | None = None
    trusts_counts: bool = True
    is_shared: bool = False
    claim: Claim | None = None
    heir: Reading | None = None
    # TikTok's first count of the window; None once the reading has ended without one.
    first_count: asyncio.Future[int | None] = field(default_factory=asyncio.Future)
    _broken_claims: int = 0

    @property
    def rest(self) -> Window:
        """What is not proven yet."""
        return Window(self.since, self.until)

    @property
    def is_done(self) -> bool:
        return self.since >= self.until

    @property
    def left(self) -> int:
        """Rows that the walk under way has before it; 0 where there is nothing to share out."""
        if self.walk is None or self.walk.proven is None or self.walk.first_total is None:
            return 0
        if self.is_shared:
            return 0  # Its walk has not counted yet what is left since.
        rows = self.walk.first_total - self.walk.proven_rows
        return rows if rows >= _WORTH_SPLITTING else 0

    @property
    def rows_per_s(self) -> float | None:
        """How dense the rows stand that the walk under way has shown in order; None when it has not."""
        if self.walk is None or not self.walk.rows_in_order:
            return None
        if self.walk.proven is None or not self.walk.proven_rows:
            return float(self.walk.rows_in_order)  # All of one second, if not more of them.
        return self.walk.proven_rows / (self.walk.proven - self.since).total_seconds()

    def begin(self, walk: Walk) -> Walk:
        """The walk through the rest is under way."""
        self.walk = walk
        self.is_shared = False
        return walk

    def end(self) -> Walk:
        """The walk that was under way is not any more."""
        walk, self.walk = self.walk, None
        if walk is None:
            raise RuntimeError("no walk is under way")
        return walk

    def advance(self, walk: Walk, *, rows: int) -> None:
        """Everything before what the walk has proven is proven, if its claim to the rest holds.

        ``rows`` of it stand before the new beginning.
        """
        begun, self.since = self.since, self.until
        if walk.proven is not None:
            self.since = min(walk.proven, self.until)
        counts = [total for total in (walk.first_total, walk.last_total) if total is not None]
        # A single page is a single state: nothing hides between two of them.
        self.claim = Claim(begun, rows, min(counts) - rows) if walk.pages > 1 and counts else None

    async def bear_out(self, count: int | None) -> Claim | None:
        """The claim that the counts of the rest contradict; what it said is to be read again.

        ``count`` is TikTok's, of the rest of this reading. None when there is no claim, or it holds.
        """
        claim, heir = self.claim, self.heir
        self.claim = self.heir = None
        if claim is None:
            return None
        other = 0 if heir is None else await heir.first_count
        if count is not None and other is not None and count + other >= claim.behind:
            return None
        self.since = claim.since
        # Rows that have left meanwhile break an honest claim, too, but hardly one after the other.
        self._broken_claims += 1
        self.trusts_counts = self.trusts_counts and self._broken_claims < _MOST_BROKEN_CLAIMS
        return claim

    def split(self) -> Reading | None:
        """The later part of what is left, for another walk; None when there is nothing to gain."""
        if self.walk is None or self.walk.proven is None or not self.left:
            return None
        middle = plan.share(self.walk.proven, self.until, rows=self.left, rows_per_s=self.rows_per_s)
        if middle is None:
            return None
        later = Window(middle, self.until)
        self.heir = Reading(later, later.since, later.until, is_live=self.is_live)
        self.until = middle
        self.is_shared = True
        return self.heir
