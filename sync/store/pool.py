"""The connections to Postgres, with every wait bounded and every loss named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog

from sync.errors import DatabaseError, DatabaseGoneError, DatabaseRefusedError
from sync.store.queries import query

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_ACQUIRE_TIMEOUT_S = 30
# The server has no connection left: how soon it is asked again, as long as one may wait for one.
_CROWDED_PAUSE_S = 0.25
_COMPLAIN_EVERY_S = 60.0
_COMMAND_TIMEOUT_S = 60
_CLOSE_TIMEOUT_S = 5
_TRIES = 6
# After the first failure; it doubles with each more.
_PAUSE_S = 0.2
_SESSION = {
    "application_name": "shopsync",
    # Below the client's own time-out: the server's is the orderly one.
    "statement_timeout": "55s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
    # A plan that is cached while a table is small would scan the table for every record, and stay
    # in use while it grows. Every statement of ours has an index to go by, and where several begin
    # with the same column, an ORDER BY that the right one needs no sort for.
    "enable_seqscan": "off",
    "enable_sort": "off",
    # With a statement of 150 columns, planning costs as much as storing a page. Every statement of ours
    # has one good plan, whatever the values.
    "plan_cache_mode": "force_generic_plan",
    "search_path": "sync_strict",
}

# The connection is gone: whether a commit arrived is unknown, so what follows must be idempotent.
CONNECTION_LOSS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # So asyncpg calls a link on which the server's farewell was found before the end of the link.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
# A session that looks well and is of no use any more: to a server that is not the primary now, or
# out of step.
_USELESS = (asyncpg.InternalClientError, asyncpg.ReadOnlySQLTransactionError)
# The same transaction may succeed when it is run again.
_COLLISION = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
)
_REFUSAL = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


class Database:
    """A pool of connections. Use as an async context manager."""

    def __init__(self, url: str, *, size: int) -> None:
        self.url = url
        self.size = size
        # From a write that found the disk full until one finds room again.
        self.is_full = False
        self._complain_at = 0.0
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Database:
        with named_losses(self.url):
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self.size,
                timeout=10,
                command_timeout=_COMMAND_TIMEOUT_S,
                max_inactive_connection_lifetime=120,
                # Without a limit: asyncpg would prepare the long statements anew for every page.
                max_cacheable_statement_size=0,
                reset=_keep,
                server_settings=_SESSION,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_TIMEOUT_S)
        except (TimeoutError, *CONNECTION_LOSS):
            self._pool.terminate()  # A blackholed connection never closes politely.

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A pooled connection; raises DatabaseError when there is none to be had."""
        if self._pool is None:
            raise RuntimeError("the database is used outside of its async context")
        with named_losses(self.url):
            connection = await self._acquire(self._pool)
            try:
                with closed_when_useless(connection):
                    yield connection
            except asyncpg.ReadOnlySQLTransactionError:
                await self._pool.expire_connections()  # The others lead to the same server.
                raise
            except asyncpg.DiskFullError:
                self.is_full = True
                raise
            finally:
                # A failure to give back is nobody's: the work is done, and the pool drops what broke.
                release = asyncio.ensure_future(self._pool.release(connection))
                release.add_done_callback(_mark_seen)
                await asyncio.wait({release})

    async def _acquire(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        """A connection; while the server has none left for us, one that another gives back here."""
        async with asyncio.timeout(_ACQUIRE_TIMEOUT_S):
            while True:
                try:
                    # Giving it back takes no longer either: asyncpg keeps the time-out.
                    return await pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
                except asyncpg.TooManyConnectionsError as error:
                    self._complain(error)
                    await asyncio.sleep(_CROWDED_PAUSE_S)

    def _complain(self, error: asyncpg.TooManyConnectionsError) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAIN_EVERY_S
            log.warning("connections_exhausted", reason=str(error))

    async def run(self, name: str, *values: Any) -> None:
        """The named statement has run, its result ignored."""
        async with self.connection() as connection:
            await connection.execute(query(name), *values)

    async def rows(self, name: str, *values: Any) -> list[asyncpg.Record]:
        """The rows of the named statement."""
        async with self.connection() as connection:
            return list(await connection.fetch(query(name), *values))

    async def value(self, name: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query(name), *values)

    async def transact(self, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        """The result of ``work``, run in one transaction; run again when that may help.

        ``work`` must be idempotent: a connection that breaks while committing leaves unknown
        whether it was done. Raises DatabaseError when the database stays away.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                async with self.connection() as connection, connection.transaction():
                    return await work(connection)
            except DatabaseError as error:
                if attempt == _TRIES or not isinstance(error.__cause__, (*CONNECTION_LOSS, *_COLLISION)):
                    raise
                log.warning("transaction_retried", attempt=attempt, reason=str(error))
                await asyncio.sleep(_PAUSE_S * 2 ** (attempt - 1))
        raise AssertionError("unreachable: the last attempt returns or raises")


async def _keep(_connection: Any) -> None:
    """A connection is given back as it is, without a round trip: all we set ends with its transaction."""


def _mark_seen(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


@contextmanager
def closed_when_useless(connection: asyncpg.Connection) -> Iterator[None]:
    """The connection is closed when it turns out to be of no use to whoever is next."""
    try:
        yield
    except _USELESS:
        connection.terminate()
        raise


@contextmanager
def named_losses(url: str) -> Iterator[None]:
    """Turns the loss of Postgres into a DatabaseError that says which and why, without the password."""
    try:
        yield
    except _REFUSAL as error:
        raise DatabaseError(f"{describe(url)} refuses: {error}. Check SHOPSYNC_DATABASE_URL") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseRefusedError(
            f"{describe(url)} does not allow it: {error}. Grant the role what it needs"
        ) from error
    except asyncpg.DiskFullError as error:
        raise DatabaseGoneError(
            f"{describe(url)} has no room left: {error}. Free space on its disk; nothing is lost meanwhile"
        ) from error
    except asyncpg.UndefinedTableError as error:
        raise DatabaseError(f"{describe(url)} lacks a table: {error}. Run `shopsync migrate`") from error
    except CONNECTION_LOSS as error:
        reason = str(error) or type(error).__name__
        raise DatabaseGoneError(
            f"{describe(url)} cannot be reached: {reason}. Start it, or correct SHOPSYNC_DATABASE_URL"
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"{describe(url)} failed: {error} ({type(error).__name__})") from error


def describe(url: str) -> str:
    """The database's address without user and password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 5432
    except ValueError:
        # Several hosts, or no address at all: half of a password may stand where a host should.
        return "Postgres (the one in SHOPSYNC_DATABASE_URL)"
    name = parts.path.lstrip("/") or "the default database"
    return f"Postgres ({name} at {host}:{port})" if host else f"Postgres ({name}, local socket)"
