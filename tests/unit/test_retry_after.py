"""How long a server wants us to wait, in every form it may say so."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.tiktok.client import read_retry_after

# Far from this machine's clock, which may be wrong.
NOW = 2_000_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("2.5", 2.5), ("3600", 3600.0), ("3601", 3600.0)),
        *(("1000000000", 3600.0), ("-5", 0.0), ("inf", 3600.0), ("-inf", 0.0), ("1e9", 3600.0)),
    ],
)
def test_seconds_are_taken_within_an_hour(header: str, seconds: float) -> None:
    assert read_retry_after(header, now=NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [None, "", " ", "soon", "nan", "NaN", "-nan", "+NAN", " nan", "7s", "1,5", "\x00", "٧٧x", "Wed, 99 Foo"],
)
def test_what_says_nothing_usable_is_no_wish(header: str | None) -> None:
    assert read_retry_after(header, now=NOW) is None


@pytest.mark.parametrize(("ahead_s", "seconds"), [(20, 20), (-20, 0), (600, 600), (86_400, 3600)])
def test_a_date_is_a_wish_too_by_the_clock_of_the_server(ahead_s: int, seconds: float) -> None:
    assert read_retry_after(formatdate(NOW + ahead_s, usegmt=True), now=NOW) == seconds


@given(
    st.one_of(
        st.text(max_size=60),
        st.floats().map(repr),
        st.from_regex(r"(Mon, )?\d{1,2} [A-Z][a-z]{2} \d{1,5} \d{1,3}:\d{1,3}(:\d{1,3})?( [+-]?\w{1,5})?"),
    )
)
def test_no_header_breaks_the_reading_or_the_bounds(header: str) -> None:
    seconds = read_retry_after(header, now=NOW)
    assert seconds is None or (0.0 <= seconds <= 3600.0 and math.isfinite(seconds))
