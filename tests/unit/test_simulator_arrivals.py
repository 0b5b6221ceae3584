"""The half-open sliding second, with times chosen by hand."""

from __future__ import annotations

import random

from sync.simulator.limits import Arrivals, Meter


def test_a_request_exactly_one_second_old_counts_no_more() -> None:
    arrivals = Arrivals()
    assert [arrivals.arrive(at, "/") for at in (10.0, 10.5, 11.0, 11.4)] == [1, 2, 2, 3]


def test_the_worst_second_equals_a_count_over_all_windows() -> None:
    rng = random.Random(5)
    times, arrivals = [], Arrivals()
    at = 0.0
    for _ in range(2_000):
        at += rng.expovariate(40)
        times.append(at)
        arrivals.arrive(at, "/")
    assert arrivals.worst_second == max(sum(end - 1 < one <= end for one in times) for end in times)
    assert arrivals.requests == 2_000


def test_only_the_running_second_is_remembered() -> None:
    arrivals = Arrivals()
    for step in range(10_000):
        arrivals.arrive(step / 64, "/")
    assert len(arrivals._second) == arrivals.worst_second == 64


def test_a_reset_forgets_the_counts_but_not_the_running_second() -> None:
    meter = Meter()
    meter.of("shop").arrive(1.0, "/")
    meter.reset()
    assert meter.of("shop").requests == 0
    assert meter.of("shop").arrive(1.1, "/") == 2
