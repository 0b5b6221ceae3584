"""The API's clock as it is learnt from Date headers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.clock import ApiClock


def skew_of(clock: ApiClock) -> float:
    """Seconds by which the API's clock is ahead of this machine's."""
    return clock.time() - time.time()


def tell(clock: ApiClock, *, skew_s: float, fraction: float = 0.0, travel_s: float = 0.1) -> None:
    """The clock hears the Date of an answer from a server that is ahead by that much."""
    sent = time.monotonic()
    stamped = datetime.fromtimestamp(time.time() + travel_s / 2 + skew_s + fraction, UTC)
    clock.learn(stamped.replace(microsecond=0), sent=sent + fraction, received=sent + fraction + travel_s)


def test_until_an_answer_was_seen_the_local_clock_counts() -> None:
    clock = ApiClock()
    assert not clock.is_known
    assert abs(skew_of(clock)) < 0.5
    assert clock.now().tzinfo is UTC


@given(st.floats(-0.9, 0.9), st.floats(0, 0.999), st.floats(0, 20))
def test_differences_within_the_grain_and_the_travel_are_noise(
    skew_s: float, fraction: float, travel_s: float
) -> None:
    clock = ApiClock()
    for _ in range(10):
        tell(clock, skew_s=skew_s, fraction=fraction, travel_s=travel_s)
    assert clock.is_known
    assert abs(skew_of(clock)) < 0.01


@given(skew_s=st.one_of(st.floats(4, 10**8), st.floats(-(10**8), -4)), fraction=st.floats(0, 0.999))
def test_a_clock_that_is_wrong_from_the_start_is_corrected_by_two_answers(
    skew_s: float, fraction: float
) -> None:
    clock = ApiClock()
    for _ in range(2):
        assert not clock.is_known
        tell(clock, skew_s=skew_s, fraction=fraction)
    assert clock.is_known
    assert abs(skew_of(clock) - skew_s) <= 1.0


@pytest.mark.parametrize("skew_s", [45.0, -3600.0])
def test_a_clock_that_goes_wrong_later_is_followed_within_the_attempts_of_one_request(skew_s: float) -> None:
    clock = ApiClock()
    for _ in range(100):
        tell(clock, skew_s=0.2)
    for _ in range(4):
        tell(clock, skew_s=skew_s)
    assert abs(skew_of(clock) - skew_s) <= 1.0


@pytest.mark.parametrize("skew_s", [86_400.0, -86_400.0, 1e9])
def test_a_single_absurd_date_moves_nothing(skew_s: float) -> None:
    """A wrong date of one edge server must not let a window reach into the future: it would be settled."""
    clock = ApiClock()
    tell(clock, skew_s=0.0)
    for _ in range(3):
        tell(clock, skew_s=skew_s)
        tell(clock, skew_s=0.0)
    assert abs(skew_of(clock)) < 0.01


@pytest.mark.parametrize("skew_s", [86_400.0, -86_400.0])
def test_even_as_the_first_a_single_absurd_date_moves_nothing(skew_s: float) -> None:
    clock = ApiClock()
    tell(clock, skew_s=skew_s)
    assert (clock.is_known, clock.is_in_doubt) == (False, True)
    tell(clock, skew_s=0.0)
    assert (clock.is_known, clock.is_in_doubt) == (True, False)
    assert abs(skew_of(clock)) < 0.01


def test_absurd_dates_that_disagree_with_each_other_move_nothing() -> None:
    clock = ApiClock()
    for skew_s in (0.0, 1e6, -1e6, 3e6, 5e6):
        tell(clock, skew_s=skew_s)
    assert abs(skew_of(clock)) < 0.01


def test_a_clock_that_was_corrected_comes_back() -> None:
    clock = ApiClock()
    for skew_s in (120.0, 120.0, 0.0, 0.0, 0.0):
        tell(clock, skew_s=skew_s)
    assert abs(skew_of(clock)) <= 1.0


def test_the_clock_runs_on_between_answers() -> None:
    clock = ApiClock()
    tell(clock, skew_s=1000.0)
    first = clock.time()
    assert clock.time() >= first
    assert clock.now() - datetime.fromtimestamp(first, UTC) < timedelta(seconds=5)
