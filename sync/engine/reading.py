"""A window while it is read: how far it is proven, where it ends, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sync.engine import plan
from sync.engine.walk import Walk
from sync.model import Window

# A split costs about half a page, so it must spare several.
_WORTH_SPLITTING = 400


@dataclass(eq=False, slots=True)
class Reading:
    """One window on its way from asked for to covered.

    Everything before ``since`` is proven. ``until`` moves back when another walk takes over the
    end; the walk under way notices after its next page. ``trusts_counts`` is over when TikTok's
    counts have contradicted what it showed: then nothing short of a whole walk proves anything.
    """

    window: Window
    since: datetime
    until: datetime
    is_live: bool = False
    walk: Walk | None = None
    trusts_counts: bool = True
    is_shared: bool = False

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

    def split(self) -> Window | None:
        """The later part of what is left, for another walk; None when there is nothing to gain."""
        if self.walk is None or self.walk.proven is None or not self.left:
            return None
        middle = plan.share(self.walk.proven, self.until, rows=self.left, rows_per_s=self.rows_per_s)
        if middle is None:
            return None
        later = Window(middle, self.until)
        self.until = middle
        self.is_shared = True
        return later
