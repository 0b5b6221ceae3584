"""Brings a database to this version: plain SQL files, each in its own transaction, with checksums.

docs/decisions/0003-own-migration-runner.md says why no framework does this here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import asyncpg
import structlog

from sync.errors import DatabaseError
from sync.shipped import SQL
from sync.store.pool import named_losses
from sync.store.queries import query

log = structlog.get_logger(__name__)

_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_MINIMUM_VERSION = 14
# About five minutes, of which readers wait behind us a third at most.
_TRIES = 100
_PAUSE_S = 2.0


@dataclass(frozen=True)
class Script:
    """One SQL file. Migrations run once, in order; views run again whenever they change."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def list_migrations(folder: Path = SQL / "migrations") -> list[Script]:
    """The migrations in order; raises ValueError when a number is missing or taken twice."""
    scripts = [Script(p.stem, p) for p in sorted(folder.glob("*.sql"))]
    for number, script in enumerate(scripts, start=1):
        match = _FILE.match(script.path.name)
        if match is None or int(match[1]) != number:
            raise ValueError(f"{script.path.name} is not migration number {number:04d}")
    return scripts


def list_views(folder: Path = SQL / "views") -> list[Script]:
    return [Script(f"view {p.stem}", p) for p in sorted(folder.glob("*.sql"))]


async def migrate_database(url: str) -> list[str]:
    """Like migrate, on a connection of its own."""
    with named_losses(url):
        # No statement time-out here: a migration of a large table takes as long as it takes.
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await migrate(connection)
        finally:
            await connection.close()


async def migrate(
    connection: asyncpg.Connection,
    *,
    migrations: list[Script] | None = None,
    views: list[Script] | None = None,
) -> list[str]:
    """The names of the scripts that were applied; empty when the database was up to date.

    Two processes may call this at once, and either may be killed at any moment: each script and
    the note that it ran commit together, under a lock that ends with the transaction. Raises
    DatabaseError when the database is newer than this program, or an applied script was edited.
    """
    migrations = list_migrations() if migrations is None else migrations
    views = list_views() if views is None else views
    await _check_server(connection)
    async with connection.transaction():
        # IF NOT EXISTS alone is not safe from two processes at once.
        await connection.execute(query("lock_scripts"))
        await connection.execute(query("create_scripts_table"))
    known = {m.name for m in migrations}
    applied = []
    for migration in migrations:
        applied += await _try_until_free(connection, partial(_apply, connection, migration, known=known))
    applied += await _try_until_free(connection, partial(_apply_views, connection, views))
    if applied:
        log.info("database_migrated", applied=applied)
    return applied


async def pending(connection: asyncpg.Connection) -> list[str]:
    """The migrations that this database lacks. Raises like migrate."""
    await _check_server(connection)
    if not await connection.fetchval(query("scripts_table_exists")):
        return [m.name for m in list_migrations()]
    noted = await _noted(connection)
    migrations = list_migrations()
    _refuse_strangers(noted, {m.name for m in migrations})
    return [s.name for s in [*migrations, *list_views()] if noted.get(s.name) != s.checksum]


async def _try_until_free(
    connection: asyncpg.Connection, work: Callable[[], Awaitable[list[str]]]
) -> list[str]:
    """The result of ``work``. Raises DatabaseError when somebody keeps a table of ours for long.

    Waiting without an end would keep every reader of the table waiting too, behind us.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            return await work()
        except asyncpg.LockNotAvailableError as error:
            users = await connection.fetchval(query("table_users")) or "a session that is gone again"
            if attempt == _TRIES:
                raise DatabaseError(
                    f"a migration waits for tables that are in use by {users}: end that transaction, "
                    "then migrate again"
                ) from error
            log.warning("migration_delayed", attempt=attempt, used_by=users)
            await asyncio.sleep(_PAUSE_S)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _apply_views(connection: asyncpg.Connection, views: Sequence[Script]) -> list[str]:
    applied = []
    async with connection.transaction():
        await connection.execute(query("lock_scripts"))
        await connection.execute(query("be_brief"))
        noted = await _noted(connection)
        for view in views:
            if noted.get(view.name) != view.checksum:
                # CREATE OR REPLACE keeps the grants that people gave on a view.
                await connection.execute(view.text)
                await connection.execute(query("note_view"), view.name, view.checksum)
                applied.append(view.name)
    return applied


async def _apply(connection: asyncpg.Connection, script: Script, *, known: set[str]) -> list[str]:
    async with connection.transaction():
        await connection.execute(query("lock_scripts"))
        await connection.execute(query("be_brief"))
        noted = await _noted(connection)
        _refuse_strangers(noted, known)
        if script.name in noted:
            if noted[script.name] != script.checksum:
                raise DatabaseError(
                    f"migration {script.name} was changed after it ran on this database: restore the file"
                )
            return []
        await connection.execute(script.text)
        await connection.execute(query("note_script"), script.name, script.checksum)
        return [script.name]


def _refuse_strangers(noted: dict[str, str], known: set[str]) -> None:
    strangers = sorted(name for name in noted if not name.startswith("view ") and name not in known)
    if strangers:
        raise DatabaseError(
            f"this database is newer than this shopsync (it has {', '.join(strangers)}): upgrade shopsync"
        )


async def _noted(connection: asyncpg.Connection) -> dict[str, str]:
    return {row["name"]: row["checksum"] for row in await connection.fetch(query("noted_scripts"))}


async def _check_server(connection: asyncpg.Connection) -> None:
    version = connection.get_server_version()
    if version.major < _MINIMUM_VERSION:
        raise DatabaseError(
            f"PostgreSQL {version.major} is too old: shopsync needs {_MINIMUM_VERSION} or newer"
        )
    encoding = await connection.fetchval(query("server_encoding"))
    if encoding != "UTF8":
        raise DatabaseError(f"the database's encoding is {encoding}: create one with ENCODING 'UTF8'")
