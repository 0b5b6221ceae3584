"""A session of Postgres and one of its stand-in in memory, side by side."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import pytest

from sync.store.queries import query
from tests.simulation.postgres import BlockedError, Server, Session, Transaction
from tests.simulation.rows import Row
from tests.simulation.world import START_S

_ORDERED = ("gaps", "uncovered", "product_ids", "due_hints")


class MemorySession:
    """A session of the memory server, without the time that its answers take."""

    def __init__(self, server: Server, session: Session) -> None:
        self._server = server
        self.session = session

    async def fetch(self, text: str, *values: Any) -> list[Row]:
        self._server.world.now = time.time() - START_S + 1000.0
        name, transaction = self._server.names[text], self.session.open or Transaction(self.session)
        try:
            rows = self._server.statements[name](self._server, transaction, *values)
        except BlockedError:
            pytest.fail(f"{name} would wait, and Postgres would not")
        if self.session.open is None:
            self._server.commit(transaction)
        return rows

    def end(self, *, commits: bool) -> None:
        if self.session.open is not None:
            (self._server.commit if commits else self._server.end)(self.session.open)
        self.session.open = None


class Pair:
    """Two sessions that are given the same."""

    def __init__(self, real: asyncpg.Connection, memory: MemorySession) -> None:
        self.real = real
        self.memory = memory
        self._block: Any = None

    async def begin(self) -> None:
        self._block = self.real.transaction()
        await self._block.start()
        self.memory.session.begin()

    async def end(self, *, commits: bool) -> None:
        await (self._block.commit() if commits else self._block.rollback())
        self.memory.end(commits=commits)

    async def ask(self, name: str, *values: Any) -> list[dict[str, Any]]:
        """The answer of both; fails where they differ."""
        real = [dict(row) for row in await self.real.fetch(query(name), *values)]
        memory = [dict(row) for row in await self.memory.fetch(query(name), *values)]
        answers = [[_comparable(row, name) for row in rows] for rows in (real, memory)]
        if name not in _ORDERED:
            answers = [sorted(rows, key=repr) for rows in answers]
        assert answers[0] == answers[1], (name, values)
        return real


def _comparable(row: dict[str, Any], name: str) -> Any:
    if name in ("hold_lease", "lock_cursor", "cover_whole", "known_orders", "known_products", "settle_hints"):
        return sorted(v) if isinstance(v := next(iter(row.values())), list) else v
    hidden = ("heard_at", "run_id")
    return {k: sorted(v) if isinstance(v, list) else v for k, v in row.items() if k not in hidden}
