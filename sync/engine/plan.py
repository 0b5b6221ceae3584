"""How a window becomes slices. Pure: counts in, windows out."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sync.model import Window, whole_second

# Rows that one walk reads in a row: large enough that its half-empty last page weighs little,
# small enough that what is newest is there soon.
LEAF_ROWS = 2_500
# Each part that turns out empty has cost a request. A flash sale hides in one minute of years.
_MOST_PARTS = 4
# Rows that stand closer together than this tell where the window's rows are.
_DENSE = 4.0


def is_too_big(total: int | None, window: Window) -> bool:
    """True when the window should be read in parts; a single second never can."""
    return total is not None and total > LEAF_ROWS and window.seconds > 1


def cut(window: Window, rows: int | None, *, rows_per_s: float | None = None) -> list[Window]:
    """Windows that tile this one, a few at a time: a part that is still too big is cut again.

    ``rows`` is None where they are too many to be counted. ``rows_per_s`` is how dense they
    are where the window begins: far above the average, it tells that most of them are near.
    """
    if rows is None:
        return window.cut(_MOST_PARTS)
    parts = max(1, min(_MOST_PARTS, math.ceil(rows / LEAF_ROWS)))
    near_s = window.seconds if not rows_per_s else max(1, math.ceil(rows / rows_per_s))
    if near_s * _DENSE >= window.seconds:
        return window.cut(parts)
    near = Window(window.since, window.since + timedelta(seconds=near_s))
    return [*near.cut(parts), Window(near.until, window.until)]


def cut_at(window: Window, moment: datetime) -> list[Window]:
    """The window before the moment and from it on, as far as there are both."""
    if not window.since < moment < window.until:
        return [window]
    return [Window(window.since, moment), Window(moment, window.until)]


def share(since: datetime, until: datetime, *, rows: int, rows_per_s: float | None) -> datetime | None:
    """Where a walk at ``since`` should end, so that another takes about half of its rows; None: nowhere."""
    seconds = int((until - since).total_seconds())
    if seconds < 2:
        return None
    half_s = seconds // 2
    if rows_per_s:
        half_s = min(half_s, max(1, math.ceil(rows / rows_per_s / 2)))
    return since + timedelta(seconds=half_s)


def horizon(now: datetime, *, settle_s: float) -> datetime:
    """The end of what may be read now: the last moments may not show in searches yet."""
    return whole_second(now - timedelta(seconds=settle_s))


def settled_until(walk_started: datetime, *, lookback_s: float) -> datetime:
    """Before this moment nothing can appear late any more, as seen by a walk started then."""
    return whole_second(walk_started - timedelta(seconds=lookback_s))
