"""Connections that a machine shares out, as asyncpg's pool does."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulation.postgres import Server, Session
from tests.simulation.world import Machine


class Pool:
    """Connections of one machine, as asyncpg's pool."""

    def __init__(self, server: Server, machine: Machine, size: int) -> None:
        self._server = server
        self._machine = machine
        self._free: list[Session] = []
        self._seats = asyncio.Semaphore(size)

    async def acquire(self, *, timeout: float) -> Any:  # noqa: ASYNC109 - asyncpg's name
        async with asyncio.timeout(timeout):
            await self._seats.acquire()
        while self._free:
            session = self._free.pop()
            if not session.is_lost:
                return PooledSession(session)
        try:
            return PooledSession(self._server.connect(self._machine))
        except BaseException:
            self._seats.release()
            raise

    async def release(self, pooled: PooledSession) -> None:
        session = pooled.session
        if session.is_left or session.open is not None:
            session.lose()
        if not session.is_lost:
            self._free.append(session)
        self._seats.release()

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        for session in self._free:
            session.lose()
        self._free.clear()


class PooledSession:
    """A connection while somebody has it from the pool."""

    __slots__ = ("execute", "fetch", "fetchrow", "fetchval", "session", "terminate", "transaction")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.fetch, self.fetchrow, self.fetchval = session.fetch, session.fetchrow, session.fetchval
        self.execute, self.terminate, self.transaction = (
            session.execute,
            session.terminate,
            session.transaction,
        )
