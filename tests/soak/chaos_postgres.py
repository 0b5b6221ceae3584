"""A PostgreSQL that is restarted, crashed and robbed of a backend, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg
import psutil

from sync.store.embedded import start_server
from sync.store.migrations import migrate_database
from tests.support import execute, with_database

Restart = Literal["fast", "immediate", "backend"]
RESTARTS: tuple[Restart, ...] = ("fast", "immediate", "backend")
_STOP = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_TEMPLATE = "template_chaos"
_PATIENCE_S = 60.0


@dataclass(slots=True)
class RestlessPostgres:
    """A server of our own; ``template`` names a database at this version, to be copied."""

    server: Any
    directory: Path
    template: str = _TEMPLATE
    is_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def admin_url(self) -> str:
        return str(self.server.get_uri())

    def url_of(self, database: str) -> str:
        return with_database(self.admin_url, database)

    async def restart(self, kind: Restart, rng: random.Random) -> bool:
        """Every connection was lost, and new ones can be made; False when there was no backend to kill."""
        self.is_up.clear()
        try:
            main = self._main()
            if kind == "backend":
                backends = [child for child in main.children() if "shopsync" in _title(child)]
                if not backends:
                    return False
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(backends).pid, signal.SIGKILL)
                await self._until_answers()
                return True
            main.send_signal(_STOP[kind])
            await asyncio.to_thread(main.wait, _PATIENCE_S)
            await asyncio.to_thread(self.server.ensure_postgres_running)
            return True
        finally:
            self.is_up.set()

    def _main(self) -> psutil.Process:
        return psutil.Process(int((self.directory / "postmaster.pid").read_text().split()[0]))

    async def _until_answers(self) -> None:
        """After a crash of a backend all others end, the log is replayed, and then it answers."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    return await execute(self.admin_url, "SELECT 1")
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)  # Nobody tells when it is back.


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@asynccontextmanager
async def restless_postgres(folder: Path) -> AsyncIterator[RestlessPostgres]:
    """A server below the folder, until the context ends."""
    server = await asyncio.to_thread(lambda: start_server(folder / "data", cleanup_mode="delete"))
    postgres = RestlessPostgres(server, folder / "data")
    try:
        # The machine does not crash here, processes do; what was written stays written.
        await execute(postgres.admin_url, "ALTER SYSTEM SET fsync = off")
        await execute(postgres.admin_url, "ALTER SYSTEM SET max_connections = 300")
        await execute(postgres.admin_url, f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0 ENCODING 'UTF8'")
        await migrate_database(postgres.url_of(_TEMPLATE))
        await postgres.restart("fast", random.Random())
        yield postgres
    finally:
        await asyncio.to_thread(server.cleanup)
