"""A clock of the tests' own, under which waiting costs no time."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TypeVar

import pytest

Played = TypeVar("Played")


class VirtualTime(selectors.SelectSelector):
    """Waiting costs no time; whoever waits is woken as late as ``lateness_s`` says."""

    def __init__(self, lateness_s: Callable[[], float]) -> None:
        super().__init__()
        self.now = 1000.0
        self._lateness_s = lateness_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for ever"
        # A clock that stands still would let timers be armed for now again and again.
        self.now += max(timeout, 1e-6) + (self._lateness_s() if timeout > 0 else 0.0)
        return super().select(0)


def run(
    scenario: Callable[[VirtualTime], Awaitable[Played]], *, late_s: float = 0.0, seed: int = 0
) -> Played:
    """What the scenario returns, played in virtual time."""
    rng = random.Random(seed)
    clock = VirtualTime(lambda: rng.uniform(0, late_s))

    def make_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(clock)
        loop.time = lambda: clock.now  # type: ignore[method-assign] # the loop has no clock to be given
        return loop

    async def play() -> Played:
        return await scenario(clock)

    with pytest.MonkeyPatch.context() as patched, asyncio.Runner(loop_factory=make_loop) as runner:
        patched.setattr("sync.tiktok.limiter.time", SimpleNamespace(monotonic=lambda: clock.now))
        return runner.run(play())
