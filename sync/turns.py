"""Who comes next, where many want what only a few may have at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Lane = OrderedDict[str, deque[asyncio.Future[None]]]


class Turns:
    """Seats that are given lane by lane, so that a lane with much to do keeps no other waiting.

    Within a lane it goes by the order of asking. Urgent waiters come before all others, and among
    themselves take turns in the same way. It counts as idle while no more than ``spare`` wait.
    """

    def __init__(self, seats: int, *, spare: int = 0) -> None:
        self._free = seats
        self._spare = spare
        self._waiting = 0
        # By urgency; the lane that has waited longest for its turn stands first.
        self._lanes: tuple[_Lane, _Lane] = (OrderedDict(), OrderedDict())
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @asynccontextmanager
    async def take(self, lane: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """A seat, for as long as the block runs."""
        await self._wait(lane, self._lanes[not urgent])
        try:
            yield
        finally:
            self._pass_on()

    async def wait_until_idle(self) -> None:
        """Returns when nobody waits for a seat, or only as many as are meant to."""
        await self._is_idle.wait()

    async def _wait(self, lane: str, lanes: _Lane) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        lanes.setdefault(lane, deque()).append(turn)
        self._count(+1)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # It was given the seat in the very moment in which it gave up.
            raise

    def _pass_on(self) -> None:
        """The seat is the next waiter's, or free."""
        for lanes in self._lanes:
            while lanes:
                lane, waiting = lanes.popitem(last=False)
                turn = waiting.popleft()
                self._count(-1)
                if waiting:
                    lanes[lane] = waiting  # Behind the others.
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1

    def _count(self, change: int) -> None:
        self._waiting += change
        if self._waiting > self._spare:
            self._is_idle.clear()
        else:
            self._is_idle.set()
