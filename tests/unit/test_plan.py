"""Windows and how they are cut: nothing between the pieces, nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.engine.plan import LEAF_ROWS, cut, horizon, is_too_big, settled_until
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


@given(WINDOWS, TOTALS)
def test_a_cut_window_is_covered_by_its_parts_and_by_nothing_else(window: Window, total: int | None) -> None:
    assert_tiles(cut(window, total), window)


@given(WINDOWS.filter(lambda window: window.seconds > 1), TOTALS)
def test_cutting_always_makes_progress(window: Window, total: int | None) -> None:
    parts = cut(window, total)
    assert len(parts) >= 2
    assert max(part.seconds for part in parts) < window.seconds


@given(WINDOWS, st.integers(0, 10**9))
def test_evenly_spread_rows_fit_into_the_parts_unless_there_are_very_many(window: Window, total: int) -> None:
    parts = cut(window, total)
    if 2 <= len(parts) < min(window.seconds, 40):
        assert total / len(parts) <= LEAF_ROWS


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
