"""How a window becomes slices. Pure: counts in, windows out."""

from __future__ import annotations

from datetime import datetime, timedelta

from sync.model import Window, whole_second

# Rows that one walk reads in a row. Large enough that the half-empty last page and the counting
# page weigh little, small enough that a walk is over before much has moved under it.
LEAF_ROWS = 1_000
_MOST_PARTS = 48
# A flash sale hides in one minute of years: fewer parts would take many rounds to find it.
_LEAST_PARTS = 4


def is_too_big(total: int | None, window: Window) -> bool:
    """True when the window should be read in parts; a single second never can."""
    return total is not None and total > LEAF_ROWS and window.seconds > 1


def cut(window: Window, total: int | None) -> list[Window]:
    """Windows that tile this one, so many that each would hold a leaf's rows were they spread evenly.

    They are not: a part that is still too big is cut again. More parts at once would leave more
    half-empty last pages. A window that fits but keeps moving is halved.
    """
    if total is not None and total <= LEAF_ROWS:
        return window.cut(2)
    return window.cut(min(_MOST_PARTS, max(_LEAST_PARTS, (total or 0) // LEAF_ROWS + 1)))


def horizon(now: datetime, *, settle_s: float) -> datetime:
    """The end of what may be read now: the last moments may not show in searches yet."""
    return whole_second(now - timedelta(seconds=settle_s))


def settled_until(walk_started: datetime, *, lookback_s: float) -> datetime:
    """Before this moment nothing can appear late any more, as seen by a walk started then."""
    return whole_second(walk_started - timedelta(seconds=lookback_s))
