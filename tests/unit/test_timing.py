"""Rounds of many shops are spread evenly, whenever they were read last."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sync.engine.timing import due_in_s

NOW = 1_800_000_000.0
SHOPS = [str(7_494_049_642_642_650_000 + 17 * n) for n in range(6_000)]


def test_shops_that_were_all_read_at_one_moment_are_spread_over_the_interval() -> None:
    slots = Counter(int(NOW + due_in_s(shop, 60, now=NOW)) % 60 for shop in SHOPS)
    assert len(slots) == 60
    assert max(slots.values()) < 1.5 * len(SHOPS) / 60


@given(shop=st.sampled_from(SHOPS), interval_s=st.sampled_from([1.0, 60.0, 300.0, 900.0, 86_400.0]))
def test_from_its_second_round_on_a_shop_is_read_exactly_once_an_interval(
    shop: str, interval_s: float
) -> None:
    first = NOW + due_in_s(shop, interval_s, now=NOW)
    second = first + due_in_s(shop, interval_s, now=first + 0.001) + 0.001
    assert abs(second - first - interval_s) < 0.01
    assert 0.25 * interval_s <= first - NOW < 1.25 * interval_s


@given(shop=st.sampled_from(SHOPS), late_s=st.floats(0, 40))
def test_a_round_that_came_late_is_followed_by_one_in_time(shop: str, late_s: float) -> None:
    first = NOW + due_in_s(shop, 60, now=NOW)
    second = first + late_s + due_in_s(shop, 60, now=first + late_s)
    assert abs((second - first) % 60) < 0.01 or abs((second - first) % 60 - 60) < 0.01


def test_the_streams_of_a_shop_come_due_together() -> None:
    for shop in SHOPS[:50]:
        long = NOW + due_in_s(shop, 900, now=NOW)
        short = NOW + due_in_s(shop, 60, now=NOW)
        assert abs((long - short) % 60) < 0.01 or abs((long - short) % 60 - 60) < 0.01
