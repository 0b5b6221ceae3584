"""Windows and how they are cut: nothing between the pieces, nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.engine.plan import (
    LEAF_ROWS,
    cut,
    horizon,
    is_too_big,
    settled_until,
    share,
)
from sync.model import Window, epoch, whole_second

T0 = datetime(2020, 1, 1, tzinfo=UTC)
WINDOWS = st.builds(
    lambda start, seconds: Window(
        T0 + timedelta(seconds=start), T0 + timedelta(seconds=start) + timedelta(seconds=seconds)
    ),
    st.integers(0, 10**8),
    st.integers(1, 10**9) | st.integers(1, 100),
)


def from_epoch(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


MOMENTS = st.builds(from_epoch, st.floats(946_684_800, 4_102_444_800))
TOTALS = st.none() | st.integers(0, 10**9) | st.integers(0, 3 * LEAF_ROWS)


def assert_tiles(parts: list[Window], whole: Window) -> None:
    assert parts[0].since == whole.since
    assert parts[-1].until == whole.until
    for left, right in pairwise(parts):
        assert left.until == right.since
    for part in parts:
        assert part.seconds >= 1
        assert part.since.microsecond == part.until.microsecond == 0
        assert (part.until - part.since).total_seconds() == part.seconds


@given(WINDOWS, st.integers(-3, 300))
def test_the_parts_of_a_window_tile_it(window: Window, parts: int) -> None:
    cut_up = window.cut(parts)
    assert_tiles(cut_up, window)
    assert len(cut_up) == max(1, min(parts, window.seconds))
    lengths = [part.seconds for part in cut_up]
    assert max(lengths) - min(lengths) <= 1


DENSITIES = st.none() | st.floats(1e-9, 1e6)


@given(WINDOWS, TOTALS, DENSITIES)
def test_a_cut_window_is_covered_by_its_parts_and_by_nothing_else(
    window: Window, rows: int | None, rows_per_s: float | None
) -> None:
    parts = cut(window, rows, rows_per_s=rows_per_s)
    assert_tiles(parts, window)
    # Every part may turn out empty and has then cost a request.
    assert len(parts) <= 5


@given(WINDOWS.filter(lambda window: window.seconds > 1), st.integers(LEAF_ROWS + 1, 10**9), DENSITIES)
def test_cutting_what_is_too_big_always_makes_progress(
    window: Window, rows: int, rows_per_s: float | None
) -> None:
    parts = cut(window, rows, rows_per_s=rows_per_s)
    assert len(parts) >= 2
    assert max(part.seconds for part in parts) < window.seconds


@given(WINDOWS.filter(lambda window: window.seconds > 1))
def test_rows_too_many_to_be_counted_are_read_in_parts(window: Window) -> None:
    assert len(cut(window, None)) >= 2


@given(WINDOWS.filter(lambda window: window.seconds > 100), st.integers(1, 4 * LEAF_ROWS))
def test_evenly_spread_rows_make_parts_that_fit_and_are_not_half_empty(window: Window, rows: int) -> None:
    parts = cut(window, rows, rows_per_s=rows / window.seconds)
    assert rows / len(parts) <= LEAF_ROWS
    assert len(parts) == 1 or rows / len(parts) > LEAF_ROWS / 2


def test_a_flash_sale_at_the_beginning_of_years_is_found_with_one_cut() -> None:
    years = Window(T0, T0 + timedelta(days=2000))
    *near, rest = cut(years, 30_000, rows_per_s=500.0)
    assert near[-1].until - T0 == timedelta(seconds=60)
    assert rest.until == years.until


@given(WINDOWS, st.integers(1, 10**6), DENSITIES)
def test_a_walk_keeps_a_part_of_what_is_shared_out(
    window: Window, rows: int, rows_per_s: float | None
) -> None:
    end = share(window.since, window.until, rows=rows, rows_per_s=rows_per_s)
    if window.seconds == 1:
        assert end is None
    else:
        assert end is not None
        assert window.since < end < window.until
        assert end.microsecond == 0
        assert (end - window.since).total_seconds() <= window.seconds / 2


def test_dense_rows_are_shared_out_where_they_stand() -> None:
    """500 rows a second with 6,000 to go: half of them are six seconds away, not half a year."""
    end = share(T0, T0 + timedelta(days=365), rows=6_000, rows_per_s=500.0)
    assert end == T0 + timedelta(seconds=6)


@given(WINDOWS, TOTALS)
def test_only_what_can_be_cut_is_too_big(window: Window, total: int | None) -> None:
    if is_too_big(total, window):
        assert window.seconds > 1
        assert total is not None
        assert total > LEAF_ROWS


def test_a_window_of_one_second_is_never_too_big() -> None:
    assert not is_too_big(10**9, Window(T0, T0 + timedelta(seconds=1)))


@pytest.mark.parametrize("seconds", [0, -1, -86_400])
def test_a_window_is_never_empty(seconds: int) -> None:
    with pytest.raises(ValueError, match="empty window"):
        Window(T0, T0 + timedelta(seconds=seconds))


def test_windows_are_ordered_by_time() -> None:
    day = Window(T0, T0 + timedelta(days=1))
    later = Window(T0 + timedelta(hours=1), T0 + timedelta(hours=2))
    assert sorted([later, day]) == [day, later]


@given(MOMENTS, st.integers(0, 1000))
def test_the_horizon_stays_behind_now_on_a_whole_second(moment: datetime, settle_s: int) -> None:
    end = horizon(moment, settle_s=settle_s)
    assert end.microsecond == 0
    assert timedelta(seconds=settle_s) <= moment - end < timedelta(seconds=settle_s + 1)


@given(MOMENTS, st.integers(0, 7 * 86_400))
def test_nothing_younger_than_the_lookback_is_settled(moment: datetime, lookback_s: int) -> None:
    until = settled_until(moment, lookback_s=lookback_s)
    assert until <= moment - timedelta(seconds=lookback_s)
    assert until > moment - timedelta(seconds=lookback_s + 1)


@given(st.integers(0, 4_000_000_000))
def test_times_survive_the_way_to_tiktok_and_back(seconds: int) -> None:
    assert epoch(from_epoch(seconds)) == seconds
    assert whole_second(from_epoch(seconds)) == from_epoch(seconds)
