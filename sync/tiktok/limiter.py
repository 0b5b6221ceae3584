"""The pacer: one per shop, through which every request of the shop passes last of all.

A bucket of ``AsyncLimiter(50, 1)`` lets 99 requests into its first second, and one of a single
token loses every late wake-up. A bucket a little larger than one token, drained a little below
the limit, does neither: the server never counts more than the limit in any second, and the rate
is used to 98 %. docs/decisions/0004-the-pacer.md has the arithmetic.
"""

from __future__ import annotations

import asyncio
import time

from aiolimiter import AsyncLimiter

_BURST = 1.25
# Seconds by which two requests may come closer to each other on their way to the server.
_JITTER_S = 0.011
_MARGIN = 0.02
_SLOWDOWN = 0.9
_RECOVERY_STEP = 0.04
_RECOVERY_EVERY_S = 10.0
_LOWEST_SHARE = 0.02
_DEFAULT_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_ONE_REFUSAL_S = 1.0


class Pacer:
    """Lets requests go one by one, never more than ``limit`` in any second at the server."""

    def __init__(self, limit: float) -> None:
        self._ceiling = (limit + 1 - _BURST - _MARGIN) / (1 + _JITTER_S)
        self._rate = self._ceiling
        self._bucket = AsyncLimiter(_BURST, _BURST / self._rate)
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._paused_until = 0.0
        self._changed_at = 0.0
        self._slowed_at = -_ONE_REFUSAL_S
        self._waiting = 0

    @property
    def rate(self) -> float:
        """Requests per second that are allowed at the moment."""
        return self._rate

    async def acquire(self) -> None:
        """Returns when the next request may leave, in the order of asking."""
        self._waiting += 1
        self._idle.clear()
        try:
            async with self._turn:
                # A pause may be prolonged while it is being waited out.
                while (pause_s := self._paused_until - time.monotonic()) > 0:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(pause_s)
                await self._follow_rate()
                await self._bucket.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Returns when nobody waits for a turn: more work in parallel would be of use."""
        await self._idle.wait()

    def slow_down(self, retry_after_s: float | None) -> None:
        """Pauses as long as the server wishes and goes on slower; said once for each refusal."""
        now = time.monotonic()
        pause_s = _DEFAULT_PAUSE_S if retry_after_s is None else retry_after_s
        # A wish of no seconds leaves no pause to tell by.
        already_slowed = now < max(self._paused_until, self._slowed_at + _ONE_REFUSAL_S)
        self._paused_until = max(self._paused_until, now + min(max(pause_s, 0.0), _LONGEST_PAUSE_S))
        if already_slowed:
            return  # Requests in flight together are refused together: that is one refusal.
        self._slowed_at = self._changed_at = now
        self._rate = max(self._rate * _SLOWDOWN, self._ceiling * _LOWEST_SHARE)

    def pause(self, seconds: float) -> None:
        """Lets nothing pass for that long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def _follow_rate(self) -> None:
        """Follows a changed rate, and climbs back while nothing was refused for a while."""
        now = time.monotonic()
        if self._rate < self._ceiling and now - self._changed_at >= _RECOVERY_EVERY_S:
            self._rate = min(self._ceiling, self._rate + self._ceiling * _RECOVERY_STEP)
            self._changed_at = now
        if self._bucket.time_period != _BURST / self._rate:
            # A bucket's drain is fixed for its life. The new one starts full, or the change
            # itself would let a burst through.
            self._bucket = AsyncLimiter(_BURST, _BURST / self._rate)
            await self._bucket.acquire(_BURST)
