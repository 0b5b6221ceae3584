"""The moment at which a request may leave: in its shop's turn, on a connection that stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from sync.tiktok.limiter import Pacer

_CONNECT_S = 15.0


@dataclass(frozen=True, slots=True)
class Priority:
    """Which requests of a shop a call takes turns with, and whether it goes before all others."""

    lane: str = ""
    is_urgent: bool = False


PLAIN = Priority()


class Turn:
    """One request's wait for its pacer, once it has a connection and before it leaves on it.

    Waiting before that would be wrong: names are resolved and connections made at their own
    speed, and requests that were let go one by one would arrive in bunches.
    """

    def __init__(
        self,
        pacer: Pacer | None,
        guard: Callable[[], None] | None,
        *,
        answer_s: float,
        priority: Priority = PLAIN,
    ) -> None:
        self._pacer = pacer
        self._guard = guard
        self._priority = priority
        self._answer_s = answer_s
        self.deadline = asyncio.timeout(_CONNECT_S)
        self.sent = time.monotonic()

    async def take(self) -> None:
        """Returns when the request may leave; from then on the answer's time runs."""
        self.deadline.reschedule(None)
        if self._pacer is not None:
            await self._pacer.acquire(self._priority.lane, urgent=self._priority.is_urgent)
        if self._guard is not None:
            self._guard()
        self.sent = time.monotonic()
        self.deadline.reschedule(asyncio.get_running_loop().time() + self._answer_s)


def trace_turns() -> aiohttp.TraceConfig:
    """Requests take the turn that is their trace context.

    aiohttp waits for these two hooks after it has a connection, new or old, and before it sends.
    """

    async def take_turn(_session: object, context: Any, _connection: object) -> None:
        await context.trace_request_ctx.take()

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(take_turn)
    tracing.on_connection_reuseconn.append(take_turn)
    return tracing
