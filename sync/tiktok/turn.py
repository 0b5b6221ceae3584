"""The moment at which a request may leave: in its shop's turn, on a connection that stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from sync.clock import ApiClock
from sync.tiktok.limiter import Pacer

_CONNECT_S = 15.0


@dataclass(frozen=True, slots=True)
class Priority:
    """Which requests of a shop a call takes turns with, and whether it goes before all others."""

    lane: str = ""
    is_urgent: bool = False


PLAIN = Priority()

Sign = Callable[[aiohttp.ClientRequest], None]


class Turn:
    """One request's wait for its pacer, once it has a connection and before it leaves on it.

    Waiting before that would be wrong: names are resolved and connections made at their own
    speed, and requests that were let go one by one would arrive in bunches. ``sign`` puts the time
    and the token on the request when its turn has come: while it waited both may have aged.
    ``guard`` is the last to be asked, and may raise. Afterwards ``sent`` is the monotonic moment at
    which it left, and ``sent_at`` the same by TikTok's clock.
    """

    def __init__(
        self,
        pacer: Pacer | None,
        guard: Callable[[], None] | None,
        *,
        clock: ApiClock,
        answer_s: float,
        priority: Priority = PLAIN,
        sign: Sign | None = None,
    ) -> None:
        self._pacer = pacer
        self._guard = guard
        self._priority = priority
        self._answer_s = answer_s
        self._sign = sign
        self.deadline = asyncio.timeout(_CONNECT_S)
        self._clock = clock
        self.sent = time.monotonic()
        self.sent_at = clock.now()

    async def take(self, request: aiohttp.ClientRequest) -> None:
        """The request may leave, signed as of now; from then on the answer's time runs."""
        self.deadline.reschedule(None)
        if self._pacer is not None:
            await self._pacer.acquire(self._priority.lane, urgent=self._priority.is_urgent)
        if self._sign is not None:
            self._sign(request)
        if self._guard is not None:
            self._guard()
        self.sent = time.monotonic()
        self.sent_at = self._clock.now()
        self.deadline.reschedule(asyncio.get_running_loop().time() + self._answer_s)


# The turn of the request that this task sends.
TURN: ContextVar[Turn] = ContextVar("TURN")


class TurnConnector(aiohttp.TCPConnector):
    """Hands out a connection when the request that wants it may leave on it.

    In aiohttp's own hooks a request that gives up leaves a new connection open for ever.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's name
    ) -> Connection:
        """A connection that stands, new or kept, once the turn has come. Raises what the turn raises."""
        connection = await self._connect_in_turn(req, traces, timeout)
        if connection.protocol is None or not connection.protocol.is_connected():
            # The wait was longer than the server's patience. A server without any is an error of the request.
            connection.close()
            connection = await self._connect_in_turn(req, traces, timeout)
        return connection

    async def _connect_in_turn(
        self, req: aiohttp.ClientRequest, traces: list[Trace], patience: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, patience)
        try:
            await TURN.get().take(req)
        except BaseException:
            connection.release()
            raise
        return connection
