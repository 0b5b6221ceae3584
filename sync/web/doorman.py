"""Stands before the web server: forgeries that come in one piece are refused before anything is made of them.

A request costs aiohttp half a millisecond, and whoever forges notifications sends thousands a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

# What to answer to the first bytes of a request; None leaves them to the server behind.
Judge = Callable[[bytes], "Refusal | None"]

# How long a request may take to begin, and how long its head may be.
_PATIENCE_S = 15.0
_MOST_HEAD_BYTES = 64 * 1024
# Below what a process may have open by default: the rest is for Postgres and TikTok Shop.
_MOST_CONNECTIONS = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer, and whether the connection ends with it."""

    answer: bytes
    is_last: bool = False


class Door:
    """Makes a doorman for each connection; ``make_inner`` makes the protocol behind it.

    ``count_inner`` tells how many connections are the server's by now.
    """

    def __init__(
        self,
        judge: Judge,
        make_inner: Callable[[], asyncio.Protocol],
        *,
        count_inner: Callable[[], int] = lambda: 0,
    ) -> None:
        self.judge = judge
        self.make_inner = make_inner
        self.open: set[asyncio.Transport] = set()
        self._count_inner = count_inner

    def __call__(self) -> Doorman:
        return Doorman(self)

    @property
    def is_full(self) -> bool:
        """True when one more connection could cost the syncs theirs."""
        return len(self.open) + self._count_inner() >= _MOST_CONNECTIONS

    def close(self) -> None:
        """Connections on which nothing came but forgeries are closed; the others are not ours any more."""
        for transport in tuple(self.open):
            transport.close()


class Doorman(asyncio.Protocol):
    """One connection, until something comes on it that is not plainly a forgery.

    From then on it is the server's for good: only it knows where one request ends and the next begins.
    The server waits for ever for the head of a first request; so that is waited for here.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._begun = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._door.is_full:
            transport.abort()
            return
        self._door.open.add(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """A forgery is refused; anything else is handed on, with the connection."""
        transport = self._transport
        assert transport is not None
        self._begun += data
        if _is_half_a_head(self._begun):
            return
        data, self._begun = self._begun, b""
        refusal = self._door.judge(data)
        if refusal is not None:
            transport.write(refusal.answer)
            if refusal.is_last:
                transport.close()
            self._wait()
            return
        self._leave()
        inner = self._door.make_inner()
        transport.set_protocol(inner)
        inner.connection_made(transport)
        inner.data_received(data)

    def pause_writing(self) -> None:
        """Whoever does not read the answers has no use for the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._leave()

    def _wait(self) -> None:
        """A request has to begin in time from now on."""
        assert self._transport is not None
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE_S, self._transport.abort)

    def _leave(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._door.open.discard(self._transport)


def _is_half_a_head(data: bytes) -> bool:
    """True when more has to come before anything can be said; what is no HTTP never gets there."""
    return data[:1].isupper() and len(data) < _MOST_HEAD_BYTES and b"\r\n\r\n" not in data
