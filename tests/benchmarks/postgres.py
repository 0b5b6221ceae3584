"""The Postgres of a measurement: a server of our own, or that of SHOPSYNC_TEST_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from sync.store.embedded import start_server
from sync.store.migrations import migrate_database
from tests.support import with_database

_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """Databases to measure in, and the CPU that the server takes for them."""

    def __init__(self, url: str, psql: Path) -> None:
        self._url = url
        self.psql = psql
        self._postmaster = asyncio.run(_find_postmaster(url))
        self.version = str(self.fetch(url, "SHOW server_version")[0][0]).partition(" ")[0]

    @contextmanager
    def database(self, name: str, *, migrated: bool = True) -> Iterator[str]:
        """The address of an empty database, at this version of shopsync unless told otherwise."""
        name = f"shopsync_bench_{name}"
        url = with_database(self._url, name)
        self.execute(self._url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(self._url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            if migrated:
                asyncio.run(migrate_database(url))
            yield url
        finally:
            self.execute(self._url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, url: str, statement: str) -> None:
        """The statements are done."""
        asyncio.run(_run(url, statement, fetches=False))

    def fetch(self, url: str, statement: str) -> list[Any]:
        """The rows of a statement."""
        return asyncio.run(_run(url, statement, fetches=True))

    def script(self, url: str, *lines: str) -> None:
        """The lines went through psql, one session, and none failed."""
        subprocess.run(self.script_command(url, *lines), check=True, stdout=subprocess.DEVNULL)

    def script_command(self, url: str, *lines: str) -> list[str | Path]:
        """The psql that runs the lines, its backslash commands among them."""
        commands = [part for line in lines for part in ("-c", line)]
        return [self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, *commands]

    def settle(self, url: str) -> None:
        """What was written is on disk: the next run does not pay for it."""
        # No ANALYZE: of tables that are still empty it makes statistics that no real server has.
        self.execute(url, "CHECKPOINT")
        # Nor for what others wrote, an installation just before among them.
        os.sync()

    def cpu_s(self) -> float:
        """Seconds of CPU of the postmaster and all its processes, ended ones too; 0 if it is elsewhere."""
        if self._postmaster is None:
            return 0.0
        ticks = _ticks_of(self._postmaster.pid, with_ended=True)
        for child in self._postmaster.children():
            try:
                ticks += _ticks_of(child.pid, with_ended=False)
            except (FileNotFoundError, ProcessLookupError):
                # Its time is among the postmaster's ended children now; the reading before had it too.
                continue
        return ticks / _TICKS


@contextmanager
def open_server(folder: Path) -> Iterator[Server]:
    """A server with the settings it is shipped with; durable, as a real one would be."""
    given = os.environ.get("SHOPSYNC_TEST_DATABASE_URL")
    if given:
        yield Server(given, Path(shutil.which("psql") or "psql"))
        return
    server = start_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield Server(server.get_uri(), Path(server.bin_path) / "psql")
    finally:
        server.cleanup()


async def _run(url: str, statement: str, *, fetches: bool) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        if fetches:
            return list(await connection.fetch(statement))
        await connection.execute(statement)
        return []
    finally:
        await connection.close()


async def _find_postmaster(url: str) -> psutil.Process | None:
    """The parent of our backend, if it is a process of this machine."""
    connection = await asyncpg.connect(url)
    try:
        backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        return backend.parent() if backend.name().startswith("postgres") else None
    except psutil.NoSuchProcess:
        return None
    finally:
        await connection.close()


def _ticks_of(pid: int, *, with_ended: bool) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(int(field) for field in fields[11 : 15 if with_ended else 13])
