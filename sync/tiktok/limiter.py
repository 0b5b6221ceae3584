"""The pacer: one per shop, through which every request of the shop passes last of all.

A bucket of ``AsyncLimiter(50, 1)`` lets 99 requests into its first second, and one of a single
token loses every late wake-up. So a bucket of a little more than one token spreads the requests,
and a log of the last ones keeps every second within the limit where the bucket would let through more.
docs/decisions/0004-the-pacer.md has the arithmetic.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from aiolimiter import AsyncLimiter

from sync.turns import Turns

# What is above one token makes up for late wake-ups.
_BURST = 1.5
# Seconds by which two requests may come closer to each other on their way to the server.
_JITTER_S = 0.0165
# The rate was the limit divided by as much.
_ROUNDING = 1e-9
_SLOWDOWN = 0.9
_RECOVERY_STEP = 0.04
_RECOVERY_EVERY_S = 10.0
_LOWEST_SHARE = 0.02
# A few too many are forgiven when a part of the second that the server counts is over, and one that
# means more refuses again.
_FIRST_PAUSE_S = 0.25
# After as much, no server that counts by the second remembers what was before.
_LIMIT_PAUSE_S = 1.0
_LONGEST_REFUSAL_PAUSE_S = 8.0
# Nobody means more by a wish to be left alone.
LONGEST_PAUSE_S = 3600.0
# Before the server's second is over, a slower pace cannot have shown.
_ONE_REFUSAL_S = 1.0
# Refusals at rates so close to each other speak of a limit; farther apart, of bad luck.
_SAME_RATE = 0.15
# A rate that lasted for longer before it was refused was not refused for its height.
_TELLING_S = 3.0
_BELOW_REFUSED = 0.95
_PROBE_EVERY_S = 120.0
_PROBE_STEP = 1.05
# So much of the rate must have been used for its being allowed to mean anything.
_TELLING_SHARE = 0.5
# Requests that may wait before more work in parallel is of no use: answers do not come evenly, and a
# moment in which nobody waits is lost.
_SPARE = 2


class Pacer:
    """Lets requests go one by one, never more than ``limit`` in any second at the server.

    ``learned_rate`` is what the shop was found to be allowed where that is less than the limit:
    refused, recovered and refused again at about the same rate, it stays below that rate and tries
    only now and then whether a little more has become possible.
    """

    def __init__(self, limit: float, *, learned_rate: float | None = None) -> None:
        self._highest = limit / (1 + _JITTER_S)
        self.adopt(learned_rate)
        self._bucket = AsyncLimiter(_BURST, _BURST / self._rate)
        # When the last ones left, as many as are allowed within a second on the way.
        self._left: deque[float] = deque(maxlen=max(1, math.floor(limit)))
        self._turns = Turns(1, spare=_SPARE)
        self._paused_until = -math.inf
        # When the pause before the last one ended.
        self._resumed_at = -math.inf
        self._slowed_at = -math.inf
        self._next_pause_s = _FIRST_PAUSE_S
        self._refused_rate: float | None = None
        self._has_recovered = False

    @property
    def rate(self) -> float:
        """Requests per second that are allowed at the moment."""
        return self._rate

    @property
    def _ceiling(self) -> float:
        return self._highest if self.learned_rate is None else self.learned_rate

    def adopt(self, learned_rate: float | None) -> None:
        """What another process has found the shop to be allowed; None is the whole limit."""
        self.learned_rate = learned_rate if learned_rate and learned_rate < self._highest else None
        self._change(self._ceiling, time.monotonic())

    async def acquire(self, lane: str = "", *, urgent: bool = False) -> None:
        """Returns when the next request may leave.

        Lanes take turns, so that a stream with many requests keeps none with few waiting; urgent
        requests come first.
        """
        async with self._turns.take(lane, urgent=urgent):
            # A pause may be prolonged while it is being waited out.
            while (pause_s := self._paused_until - time.monotonic()) > 0:  # noqa: ASYNC110 - no event
                await asyncio.sleep(pause_s)
            await self._follow_rate()
            await self._bucket.acquire()
            # By now there may be a pause of which nobody knew before.
            while (wait_s := max(self._room_from(), self._paused_until) - time.monotonic()) > 0:  # noqa: ASYNC110 - no event
                await asyncio.sleep(wait_s)
            self._left.append(time.monotonic())
            self._granted += 1

    async def wait_until_idle(self) -> None:
        """Returns when hardly anybody waits for a turn: more work in parallel would be of use."""
        await self._turns.wait_until_idle()

    def slow_down(self, retry_after_s: float | None, *, left_at: float) -> None:
        """Pauses as long as the server wishes, an hour at most, and goes on slower.

        Said once for each refusal, with the monotonic moment at which the refused request left. A wish
        is the least that is waited; refusals in a row double what is, up to 1 s while other requests
        pass, up to 8 s while none does.
        """
        now = time.monotonic()
        # Requests in flight together are refused together: that is one refusal.
        is_known = left_at < self._paused_until
        if not is_known:
            if left_at > self._paused_until + _RECOVERY_EVERY_S:
                self._next_pause_s = _FIRST_PAUSE_S
            self._resumed_at = self._paused_until
            self.pause(self._next_pause_s)
            self._next_pause_s = min(2 * self._next_pause_s, _LONGEST_REFUSAL_PAUSE_S)
        if retry_after_s is not None:
            self.pause(min(retry_after_s, LONGEST_PAUSE_S))
        if is_known or now < self._slowed_at + _ONE_REFUSAL_S:
            return
        self._slowed_at = now
        if left_at < self._changed_at + _TELLING_S:
            self._learn(self._rate)
        self._change(max(min(self._rate * _SLOWDOWN, self._ceiling), self._highest * _LOWEST_SHARE), now)

    def note_success(self, *, left_at: float) -> None:
        """The request that left then was not refused: it is a limit that refuses others, and no outage."""
        # Answers that bring something take longer than refusals: it may have left before the last pause.
        if left_at >= self._resumed_at:
            self._next_pause_s = min(self._next_pause_s, _LIMIT_PAUSE_S)

    def pause(self, seconds: float) -> None:
        """Lets nothing pass for that long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _room_from(self) -> float:
        """The moment from which on one more is no more than the rate allows within a second on the way."""
        count = max(1, math.floor(self._rate * (1 + _JITTER_S) + _ROUNDING))
        return self._left[-count] + count / self._rate if len(self._left) >= count else 0.0

    def _change(self, rate: float, now: float) -> None:
        self._rate = rate
        self._changed_at = now
        self._granted = 0

    def _has_lasted(self, seconds: float, now: float) -> bool:
        """True when the rate was used for that long and nothing was refused.

        Nothing can be refused during a pause, nor while a shop is hardly asked for anything.
        """
        quiet_s = now - max(self._changed_at, self._paused_until)
        return quiet_s >= seconds and self._granted >= _TELLING_SHARE * self._rate * seconds

    def _learn(self, refused: float) -> None:
        if refused > self._ceiling:
            return  # A probe that failed: what was learned holds.
        before, self._refused_rate = self._refused_rate, refused
        # One refusal after the other, with no recovery between, is a descent and tells of no limit.
        if before is not None and self._has_recovered and abs(refused - before) <= _SAME_RATE * before:
            lowest = self._highest * _LOWEST_SHARE
            self.learned_rate = max(min(refused, before) * _BELOW_REFUSED, lowest)
        self._has_recovered = False

    async def _follow_rate(self) -> None:
        """Follows a changed rate, and climbs back while nothing was refused for a while."""
        now = time.monotonic()
        if self._rate < self._ceiling and self._has_lasted(_RECOVERY_EVERY_S, now):
            self._change(min(self._ceiling, self._rate + self._highest * _RECOVERY_STEP), now)
            self._has_recovered = True
        elif self.learned_rate is not None and self._has_lasted(_PROBE_EVERY_S, now):
            # The last probe has lasted: it is what the shop is allowed by now, if not more.
            self.learned_rate = self._rate if self._rate < self._highest else None
            self._change(min(self._rate * _PROBE_STEP, self._highest), now)
        if self._bucket.time_period != _BURST / self._rate:
            # A bucket's drain is fixed for its life. The new one starts full, or the change
            # itself would let a burst through.
            self._bucket = AsyncLimiter(_BURST, _BURST / self._rate)
            await self._bucket.acquire(_BURST)
