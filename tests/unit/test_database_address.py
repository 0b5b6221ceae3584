"""How a database is named in messages: recognisable, and without what it takes to log in."""

from __future__ import annotations

import asyncpg
import pytest

from sync.errors import DatabaseError
from sync.store.pool import describe, named_losses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:canary@host:5433/shop", "Postgres (shop at host:5433)"),
        ("postgresql://user:canary@host/shop", "Postgres (shop at host:5432)"),
        ("postgresql://host", "Postgres (the default database at host:5432)"),
        ("postgresql:///shop?host=/run/postgresql&password=canary", "Postgres (shop, local socket)"),
    ],
)
def test_a_database_is_named_without_user_and_password(url: str, shown: str) -> None:
    assert describe(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:can/ary@host:5432/db",
        "postgresql://user:canary@host:port/db",
        "postgresql://user:canary@one:5432,two:5433/db",
        "postgresql://user:canary@[::1/db",
        "postgresql://user:canary@host:99999/db",
        "",
    ],
)
def test_no_address_is_too_strange_to_be_named(url: str) -> None:
    shown = describe(url)
    assert shown.startswith("Postgres (")
    assert "canary" not in shown
    assert "ary@" not in shown


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InvalidCatalogNameError("no such database"),
        asyncpg.InsufficientPrivilegeError("permission denied"),
        asyncpg.UndefinedTableError("no such table"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.TooManyConnectionsError("too many"),
        asyncpg.AdminShutdownError("terminating"),
        asyncpg.ReadOnlySQLTransactionError("read only"),
        asyncpg.DiskFullError("no space left"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.OutOfMemoryError("out of memory"),
        ConnectionRefusedError(111, "refused"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_to_lose_postgres_is_a_database_error_that_names_it(error: Exception) -> None:
    with (
        pytest.raises(DatabaseError, match=r"Postgres \(shop at host:5432\)") as caught,
        named_losses("postgresql://user:canary@host/shop"),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert "canary" not in str(caught.value)


def test_faults_of_our_own_are_not_blamed_on_postgres() -> None:
    with pytest.raises(KeyError), named_losses("postgresql://host/shop"):
        raise KeyError("a fault")
