"""The pacer under a clock of the test's own: never over the limit, hardly under it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.tiktok.limiter import Pacer
from tests.virtual_time import VirtualTime, run

JITTER_S = 0.016


def most_within(moments: list[float], seconds: float) -> int:
    """How many of the moments lie in the fullest stretch of that length, its ends included."""
    most = start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


async def grants(pacer: Pacer, clock: VirtualTime, pauses: list[float], times: int) -> list[float]:
    """When each of several workers, begun one after the other, was let through."""
    moments: list[float] = []

    async def work() -> None:
        for _ in range(times):
            await pacer.acquire()
            moments.append(clock.now)

    async with asyncio.TaskGroup() as group:
        for pause in pauses:
            await asyncio.sleep(pause)
            group.create_task(work())
    return moments


@settings(max_examples=40, deadline=None)
@given(
    pauses=st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0, 5.0]), min_size=1, max_size=60),
    times=st.integers(1, 12),
    late_ms=st.sampled_from([0, 1, 4, 30]),
    seed=st.integers(0, 9),
)
def test_no_second_at_the_server_sees_more_than_the_limit(
    pauses: list[float], times: int, late_ms: int, seed: int
) -> None:
    async def scenario(clock: VirtualTime) -> list[float]:
        return await grants(Pacer(50), clock, pauses, times)

    moments = run(scenario, late_s=late_ms / 1000, seed=seed)
    assert len(moments) == len(pauses) * times
    # Two requests may come closer together on their way than they left.
    assert most_within(moments, 1 + JITTER_S) <= 50


@pytest.mark.parametrize(
    ("late_s", "least"), [(0.0, 49.1), (0.001, 49.1), (0.004, 49.0), (0.008, 48.8), (0.015, 47.0)]
)
def test_the_limit_is_used_fully_when_there_is_work(late_s: float, least: float) -> None:
    async def scenario(clock: VirtualTime) -> list[float]:
        return await grants(Pacer(50), clock, [0.0] * 40, 50)

    moments = run(scenario, late_s=late_s)
    assert (len(moments) - 1) / (moments[-1] - moments[0]) >= least
    assert most_within(moments, 1 + JITTER_S) <= 50


@pytest.mark.parametrize("limit", [1, 5, 20, 100])
def test_other_limits_hold_as_well(limit: int) -> None:
    async def scenario(clock: VirtualTime) -> list[float]:
        return await grants(Pacer(limit), clock, [0.0] * 10, limit * 2)

    moments = run(scenario, late_s=0.001)
    assert most_within(moments, 1 + JITTER_S) <= limit
    assert (len(moments) - 1) / (moments[-1] - moments[0]) >= limit * 0.9


def test_requests_pass_in_the_order_in_which_they_asked() -> None:
    async def scenario(clock: VirtualTime) -> list[int]:
        pacer = Pacer(50)
        passed: list[int] = []

        async def work(number: int) -> None:
            await pacer.acquire()
            passed.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(work(number))
        return passed

    assert run(scenario) == list(range(100))


def test_a_waiter_that_is_cancelled_costs_the_others_nothing() -> None:
    async def scenario(clock: VirtualTime) -> list[float]:
        pacer = Pacer(50)
        doomed = [asyncio.create_task(pacer.acquire()) for _ in range(200)]
        await asyncio.sleep(0.5)
        for task in doomed[30:]:
            task.cancel()
        started = clock.now
        moments = await grants(pacer, clock, [0.0], 49)
        assert moments[-1] - started < 1.5
        await asyncio.wait_for(pacer.wait_until_idle(), 1)
        return moments

    assert most_within(run(scenario), 1 + JITTER_S) <= 50


@pytest.mark.parametrize(("wish_s", "least_s"), [(None, 0.25), (0.0, 0.25), (7.0, 7.0), (-3.0, 0.25)])
def test_nothing_passes_before_the_server_s_wish_is_over(wish_s: float | None, least_s: float) -> None:
    async def scenario(clock: VirtualTime) -> tuple[float, list[float]]:
        pacer = Pacer(50)
        # Some wait for their turn already, one of them as the next.
        waiting = asyncio.create_task(grants(pacer, clock, [0.0] * 4, 3))
        await asyncio.sleep(0.05)
        refused = clock.now
        pacer.slow_down(wish_s, left_at=refused)
        return refused, await waiting

    refused, moments = run(scenario)
    assert least_s <= min(m for m in moments if m > refused) - refused <= least_s + 0.1


def test_what_another_process_has_learned_ends_no_pause() -> None:
    async def scenario(clock: VirtualTime) -> tuple[float, float]:
        pacer = Pacer(50)
        refused = clock.now
        pacer.slow_down(7.0, left_at=refused)
        pacer.adopt(20.0)
        await pacer.acquire()
        return clock.now - refused, pacer.rate

    waited, rate = run(scenario)
    assert waited >= 7.0
    assert rate == 20.0


def test_requests_refused_within_a_second_slow_down_once() -> None:
    async def scenario(clock: VirtualTime) -> float:
        pacer = Pacer(50)
        full = pacer.rate
        for _ in range(2):
            await pacer.acquire()
            pacer.slow_down(None, left_at=clock.now)
        return pacer.rate / full

    assert run(scenario) == pytest.approx(0.9)


def test_late_refusals_of_what_left_before_the_pause_do_not_prolong_the_next() -> None:
    async def scenario(clock: VirtualTime) -> float:
        pacer = Pacer(50)
        left = [clock.now + number * 0.02 for number in range(40)]
        await asyncio.sleep(0.8)
        for moment in left:
            await asyncio.sleep(moment + 1.0 - clock.now)
            pacer.slow_down(None, left_at=moment)
        refused = clock.now
        pacer.slow_down(None, left_at=refused)
        await pacer.acquire()
        return clock.now - refused

    assert run(scenario) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("refusal_s", [0.1, 11.0])
@pytest.mark.parametrize(
    ("passes", "expected"),
    [(False, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]), (True, [0.25, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0])],
)
def test_pauses_grow_while_refusals_follow_each_other(
    refusal_s: float, passes: bool, expected: list[float]
) -> None:
    async def scenario(clock: VirtualTime) -> list[float]:
        pacer = Pacer(50)
        waited = []

        async def be_refused() -> None:
            await pacer.acquire()
            left = clock.now
            await asyncio.sleep(refusal_s)
            pacer.slow_down(None, left_at=left)
            refused = clock.now
            await asyncio.sleep(0.1)
            # Of before the last refusal: it says nothing of what is now.
            pacer.note_success(left_at=left - 0.3)
            if passes:
                pacer.note_success(left_at=left)
            await pacer.acquire()
            waited.append(clock.now - refused)

        for _ in expected:
            await be_refused()
        await asyncio.sleep(30)
        await be_refused()
        return waited

    assert run(scenario) == pytest.approx([*expected, 0.25], abs=0.05)


def test_a_wish_that_is_too_long_is_cut() -> None:
    async def scenario(clock: VirtualTime) -> float:
        pacer = Pacer(50)
        refused = clock.now
        pacer.slow_down(1e9, left_at=refused)
        await pacer.acquire()
        return clock.now - refused

    assert 3600 <= run(scenario) <= 3601


@pytest.mark.parametrize("wish_s", [None, 0.0, 0.01, 5.0])
def test_requests_that_are_refused_together_slow_down_once(wish_s: float | None) -> None:
    async def scenario(clock: VirtualTime) -> tuple[float, float]:
        pacer = Pacer(50)
        before = pacer.rate
        left = clock.now
        for _ in range(40):
            await asyncio.sleep(0.005)
            pacer.slow_down(wish_s, left_at=left)
        return before, pacer.rate

    before, after = run(scenario)
    assert after < before
    assert after >= before * 0.8


def test_refusals_again_and_again_slow_down_again_but_never_to_a_stop() -> None:
    async def scenario(clock: VirtualTime) -> tuple[float, float]:
        pacer = Pacer(50)
        before = pacer.rate
        for _ in range(60):
            await pacer.acquire()
            pacer.slow_down(None, left_at=clock.now)
            await asyncio.sleep(2)
        return before, pacer.rate

    before, after = run(scenario)
    assert 0 < after < before / 10


def test_the_full_rate_comes_back_when_nothing_is_refused_any_more() -> None:
    async def scenario(clock: VirtualTime) -> tuple[float, list[float]]:
        pacer = Pacer(50)
        full = pacer.rate
        for _ in range(5):
            pacer.slow_down(None, left_at=clock.now)
            await pacer.acquire()
        assert pacer.rate < full
        moments = await grants(pacer, clock, [0.0] * 10, 1000)
        assert pacer.rate == full
        return full, moments

    full, moments = run(scenario)
    assert most_within(moments, 1 + JITTER_S) <= 50
    assert len([m for m in moments if m > moments[-1] - 10]) >= 10 * (full - 1)


def test_nothing_passes_while_the_pacer_is_paused() -> None:
    async def scenario(clock: VirtualTime) -> float:
        pacer = Pacer(50)
        started = clock.now
        pacer.pause(1.0)
        await pacer.acquire()
        return clock.now - started

    assert 1.0 <= run(scenario) <= 1.1
