"""What a pacer learns from refusals: the limit of a shop that is allowed less, and nothing from bad luck."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from sync.tiktok.limiter import Pacer
from tests.virtual_time import VirtualTime, run


class Server:
    """Refuses what goes over its limit in any second, or everything while it is ill."""

    def __init__(self, clock: VirtualTime, limit: int) -> None:
        self._clock = clock
        self.limit = limit
        self.is_ill = False
        self._seen: deque[float] = deque()
        self.refusals: list[float] = []

    def ask(self, pacer: Pacer, *, retry_after_s: float | None = None) -> None:
        """One request, and what the pacer hears of it."""
        now = self._clock.now
        while self._seen and self._seen[0] <= now - 1:
            self._seen.popleft()
        self._seen.append(now)
        if self.is_ill or len(self._seen) > self.limit:
            self.refusals.append(now)
            pacer.slow_down(retry_after_s, left_at=now)
        else:
            pacer.note_success(left_at=now)

    async def serve(self, pacer: Pacer, seconds: float) -> int:
        """How many requests left in that time, one always being ready."""
        until = self._clock.now + seconds
        sent = 0
        while self._clock.now < until:
            await pacer.acquire()
            self.ask(pacer)
            sent += 1
        return sent

    def refused_since(self, moment: float) -> int:
        return sum(at >= moment for at in self.refusals)


@pytest.mark.parametrize("limit", [10, 20, 40])
def test_a_lower_limit_is_found_kept_and_nearly_used_up(limit: int) -> None:
    async def scenario(clock: VirtualTime) -> None:
        server, pacer = Server(clock, limit), Pacer(50)
        await server.serve(pacer, 300)
        settled = clock.now
        sent = await server.serve(pacer, 600)
        assert pacer.learned_rate is not None
        assert pacer.learned_rate <= limit
        assert sent / 600 >= limit * 0.85
        # Only looking whether more has become possible is refused now and then.
        assert server.refused_since(settled) <= 12

    run(scenario)


def test_a_pacer_that_is_told_what_another_has_learned_is_spared_its_lessons() -> None:
    async def scenario(clock: VirtualTime) -> list[int]:
        server, pacer = Server(clock, 20), Pacer(50)
        await server.serve(pacer, 900)
        refusals = []
        for told in (pacer.learned_rate, None):
            await asyncio.sleep(2)
            began = clock.now
            assert await server.serve(Pacer(50, learned_rate=told), 60) >= 60 * 15
            refusals.append(server.refused_since(began))
        return refusals

    told, untold = run(scenario)
    assert told <= 1  # Its bucket is empty at first, and the limit is learned from one that ran full.
    assert untold >= 8


def test_the_full_rate_comes_back_when_the_lower_limit_is_gone() -> None:
    async def scenario(clock: VirtualTime) -> None:
        server, pacer = Server(clock, 40), Pacer(50)
        full = pacer.rate
        await server.serve(pacer, 300)
        assert pacer.learned_rate is not None
        server.limit = 50
        await server.serve(pacer, 1200)
        learned: float | None = pacer.learned_rate
        assert (pacer.rate, learned) == (full, None)
        assert server.refused_since(clock.now - 600) == 0

    run(scenario)


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 0.5, 60.0])
def test_an_outage_teaches_no_limit(retry_after_s: float | None) -> None:
    async def scenario(clock: VirtualTime) -> None:
        server, pacer = Server(clock, 50), Pacer(50)
        full = pacer.rate
        server.is_ill = True
        until = clock.now + 300
        while clock.now < until:
            await pacer.acquire()
            server.ask(pacer, retry_after_s=retry_after_s)
            await asyncio.sleep(0.3)
        server.is_ill = False
        assert pacer.learned_rate is None
        await server.serve(pacer, 300)
        assert pacer.rate == full

    run(scenario)


def test_a_refusal_now_and_then_that_has_nothing_to_do_with_the_rate_teaches_no_limit() -> None:
    async def scenario(clock: VirtualTime) -> None:
        server, pacer = Server(clock, 50), Pacer(50)
        for _ in range(6):
            await server.serve(pacer, 60)
            server.is_ill = True
            server.ask(pacer)
            server.is_ill = False
        assert len(server.refusals) >= 6
        assert pacer.learned_rate is None

    run(scenario)


@pytest.mark.parametrize("told", [None, 0.0, 49.5, 1000.0])
def test_what_is_no_lower_limit_is_not_learned(told: float | None) -> None:
    assert Pacer(50, learned_rate=told).rate == Pacer(50).rate


def test_a_stream_with_one_request_does_not_wait_behind_another_s_crowd() -> None:
    async def scenario(clock: VirtualTime) -> list[str]:
        pacer = Pacer(50)
        passed: list[str] = []

        async def ask(lane: str, *, urgent: bool = False) -> None:
            await pacer.acquire(lane, urgent=urgent)
            passed.append(lane)

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(ask("orders"))
            await asyncio.sleep(0.1)
            group.create_task(ask("inventory"))
            group.create_task(ask("products", urgent=True))
            await asyncio.sleep(0)
            already = len(passed)
        return passed[already : already + 4]

    # One may have been on its way through already.
    assert {"inventory", "products"} <= set(run(scenario))


def test_a_shop_that_is_hardly_asked_for_anything_unlearns_nothing() -> None:
    async def scenario(clock: VirtualTime) -> None:
        server, pacer = Server(clock, 10), Pacer(50)
        await server.serve(pacer, 300)
        learned = pacer.learned_rate
        assert learned is not None
        for _ in range(180):
            await asyncio.sleep(60)
            await pacer.acquire()
            server.ask(pacer)
        assert pacer.learned_rate == learned
        busy = clock.now
        await server.serve(pacer, 60)
        assert server.refused_since(busy) <= 2

    run(scenario)
