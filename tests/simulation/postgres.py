"""Postgres as the store sees it: sessions, transactions, row locks, connections that break.

What a statement does is in books.py, notes.py and tables.py. Its writes wait for the commit, so
everybody reads what is committed; rows that are written stay locked until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from sync.store.queries import load_queries
from tests.simulation.rows import Row
from tests.simulation.world import Again, Machine, Silence, World

_LOCK_TIMEOUT_S = 10.0
_LOCK_AGAIN_S = 0.05
_IDLE_IN_TRANSACTION_S = 30.0

Key = tuple[str, ...]
Statement = Callable[..., "list[Row]"]


class BlockedError(Exception):
    """Another transaction has the row locked."""


@dataclass(eq=False, slots=True)
class Transaction:
    """What is written at the commit, and what is locked until then."""

    session: Session
    writes: list[Callable[[], None]] = field(default_factory=list)
    locks: set[Key] = field(default_factory=set)
    claims: list[tuple[str, Any, int]] = field(default_factory=list)
    checks: list[Callable[[], None]] = field(default_factory=list)


class Server:
    """The database that all machines share. ``statements`` do the work, by name."""

    def __init__(self, world: World, statements: dict[str, Statement]) -> None:
        self.world = world
        self.statements = statements
        self.names = {text: name for name, text in load_queries().items()}
        self.is_up = True
        self.sessions: list[Session] = []
        # How likely a connection breaks at a statement, and at a commit that may or may not arrive.
        self.cut = 0.0
        self.cut_at_commit = 0.0
        self.latency_s = 0.001
        self.on_commit: Callable[[Transaction], None] = lambda _: None
        self._locks: dict[Key, dict[Transaction, bool]] = {}
        self._numbers = 0

    def lock(self, transaction: Transaction, key: Key, *, shared: bool = False, skips: bool = False) -> bool:
        """True when the row is the transaction's until it ends; else skipped, or BlockedError raised."""
        holders = self._locks.setdefault(key, {})
        if any(t is not transaction and not (shared and is_shared) for t, is_shared in holders.items()):
            if skips:
                return False
            raise BlockedError
        holders[transaction] = shared and holders.get(transaction, True)
        transaction.locks.add(key)
        return True

    def is_locked(self, key: Key) -> bool:
        return bool(self._locks.get(key))

    def end(self, transaction: Transaction) -> None:
        for key in transaction.locks:
            holders = self._locks[key]
            holders.pop(transaction, None)
            if not holders:
                del self._locks[key]
        transaction.locks.clear()

    def commit(self, transaction: Transaction) -> None:
        """Everything the transaction wrote is there at once."""
        self.on_commit(transaction)
        for write in transaction.writes:
            write()
        for check in transaction.checks:
            check()
        self.end(transaction)

    def connect(self, machine: Machine) -> Session:
        if not self.is_up:
            raise ConnectionRefusedError("the server is down")
        self._numbers += 1
        session = Session(self, machine, self._numbers)
        self.sessions.append(session)
        return session

    def restart(self, *, down_s: float) -> None:
        """Every connection is gone, and none is to be had for a while."""
        self.is_up = False
        for session in list(self.sessions):
            session.lose()
        self.world.after(down_s, self._come_up)

    def _come_up(self) -> None:
        self.is_up = True

    def forget(self, machine: Machine, *, delivers: bool) -> None:
        """The machine has died; what it had sent may still arrive."""
        for session in [s for s in self.sessions if s.machine is machine]:
            if delivers and session.in_flight:
                session.is_orphan = True
            else:
                session.lose()

    def note_stop(self, machine: Machine) -> None:
        """The machine stands still: its open transactions are ended by the server after their time."""

        def end_idle() -> None:
            for session in [s for s in self.sessions if s.machine is machine]:
                if machine.is_stopped and session.open is not None and not session.in_flight:
                    session.lose()

        self.world.after(_IDLE_IN_TRANSACTION_S, end_idle)


class Session:
    """One connection, as asyncpg's."""

    def __init__(self, server: Server, machine: Machine, number: int) -> None:
        self.server = server
        self.machine = machine
        self.number = number
        self.is_lost = False
        self.is_orphan = False
        self.is_left = False
        self.in_flight = 0
        self.open: Transaction | None = None
        self._listeners: list[Callable[[Session], None]] = []

    # What the store calls.

    async def fetch(self, text: str, *values: Any, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109
        name, patience = self.server.names[text], self.server.world.now + _LOCK_TIMEOUT_S
        rows: list[Row] = await self._ask(lambda: self._run(name, values, patience), timeout)
        return rows

    async def fetchrow(self, text: str, *values: Any) -> Row | None:
        rows = await self.fetch(text, *values)
        return rows[0] if rows else None

    async def fetchval(self, text: str, *values: Any) -> Any:
        row = await self.fetchrow(text, *values)
        return None if row is None else row[0]

    async def execute(self, text: str, *values: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self.fetch(text, *values, timeout=timeout)

    def transaction(self) -> _Block:
        return _Block(self)

    def is_closed(self) -> bool:
        return self.is_lost

    def terminate(self) -> None:
        self.lose()

    async def close(self) -> None:
        self.lose()

    def add_termination_listener(self, listener: Callable[[Session], None]) -> None:
        self._listeners.append(listener)

    # What happens at the server.

    def lose(self) -> None:
        """The connection is gone, and with it what was not committed."""
        if self.is_lost:
            return
        self.is_lost = True
        if self.open is not None:
            self.server.end(self.open)
            self.open = None
        self.server.sessions.remove(self)
        if not self.machine.is_dead:
            for listener in self._listeners:
                self.machine.loop.call_soon(listener, self)

    async def _ask(self, work: Callable[[], Any], timeout: float | None = None) -> Any:  # noqa: ASYNC109
        if self.is_lost:
            raise asyncpg.InterfaceError("the connection is closed")
        self.in_flight += 1
        latency_s = self.server.latency_s * self.server.world.rng.uniform(0.2, 1.8)
        answer = self.machine.ask(lambda: self._arrive(work), there_s=latency_s, back_s=latency_s)
        try:
            return await (answer if timeout is None else asyncio.wait_for(answer, timeout))
        except (asyncio.CancelledError, TimeoutError):
            self.is_left = True  # In the middle of a statement: nobody can use it any more.
            raise

    def _arrive(self, work: Callable[[], Any]) -> Any:
        if self.is_lost:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if self.server.cut and self.server.world.rng.random() < self.server.cut:
            self._cut("before")
        try:
            result = work()
        except Again:
            raise
        except BaseException:
            self._landed()
            raise
        self._landed()
        return result

    def _landed(self) -> None:
        self.in_flight -= 1
        if self.is_orphan and not self.in_flight:
            self.lose()

    def _cut(self, when: str) -> None:
        self.in_flight = 0
        self.server.world.record(f"connection {self.number} of {self.machine.name} cut {when}")
        self.lose()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def _run(self, name: str, values: Sequence[Any], patience: float) -> list[Row]:
        transaction = self.open or Transaction(self)
        try:
            rows = self.server.statements[name](self.server, transaction, *values)
        except BlockedError:
            if self.open is None:
                self.server.end(transaction)
            if self.server.world.now < patience:
                raise Again(_LOCK_AGAIN_S) from None
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout") from None
        if self.open is None:
            self.server.commit(transaction)
        return rows

    def begin(self) -> None:
        if self.is_lost:
            raise asyncpg.InterfaceError("the connection is closed")
        self.open = Transaction(self)

    async def end(self, *, commits: bool) -> None:
        if self.is_lost or self.open is None:
            raise asyncpg.InterfaceError("the connection is closed")
        await self._ask(lambda: self._end(commits=commits))

    def _end(self, *, commits: bool) -> None:
        transaction = self.open
        if transaction is None:
            raise Silence
        rng, risk = self.server.world.rng, self.server.cut_at_commit
        is_cut = commits and bool(risk) and rng.random() < risk
        arrives = not is_cut or rng.random() < 0.5
        if commits and arrives:
            self.server.commit(transaction)
        else:
            self.server.end(transaction)
        self.open = None
        if is_cut:
            self._cut("after its commit" if arrives else "with its commit")


class _Block:
    """A transaction as an async context."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __aenter__(self) -> None:
        self._session.begin()

    async def __aexit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            await self._session.end(commits=True)
        elif self._session.is_left:
            self._session.lose()
        elif not self._session.is_lost:
            await self._session.end(commits=False)
