"""What tests share besides fixtures."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog
from pydantic import SecretStr

from sync.app import App, open_app
from sync.settings import Settings, load_settings
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30
ENCRYPTION_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
# Sample bodies of the API's documentation, where a checkout has them beside it.
SAMPLES = Path(__file__).parents[1].parent / "shared" / "reference" / "samples"


def decode_key(key: str) -> bytes:
    """An encryption key as the vault wants it."""
    return base64.urlsafe_b64decode(key)


def make_server_folder() -> Path:
    """An empty folder for a PostgreSQL, in memory where there is room.

    Each database is hundreds of small files, and tests make many databases.
    """
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    # Not below pytest's own folder: another run makes that unreadable for Postgres' user.
    return Path(tempfile.mkdtemp(prefix="shopsync-test-", dir=_MEMORY if has_room else None))


def with_database(url: str, name: str) -> str:
    """The same server's other database."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


def simulator_settings(simulator: RunningSimulator, **changes: Any) -> Settings:
    """Settings of a worker that syncs from the simulator into a database of its own."""
    settings = load_settings(
        overrides={
            "api_url": simulator.url,
            "auth_url": simulator.url,
            "app_key": simulator.options.app_key,
            **changes,
        }
    )
    return settings.model_copy(update={"app_secret": SecretStr(simulator.options.app_secret)})


def make_settings(database_url: str, simulator: RunningSimulator, **changes: Any) -> Settings:
    """The same, into the database."""
    return simulator_settings(simulator, **changes).model_copy(
        update={"database_url": SecretStr(database_url), "encryption_key": SecretStr(ENCRYPTION_KEY)}
    )


def environment_of(database_url: str, simulator_url: str, options: SimulatorOptions) -> dict[str, str]:
    """The environment of a shopsync process that syncs from the simulator into the database."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSYNC_")}
    return kept | {
        "SHOPSYNC_DATABASE_URL": database_url,
        "SHOPSYNC_ENCRYPTION_KEY": ENCRYPTION_KEY,
        "SHOPSYNC_API_URL": simulator_url,
        "SHOPSYNC_AUTH_URL": simulator_url,
        "SHOPSYNC_APP_KEY": options.app_key,
        "SHOPSYNC_APP_SECRET": options.app_secret,
        "SHOPSYNC_WEB__PORT": "0",
    }


@contextmanager
def logging_restored() -> Iterator[None]:
    """Whatever the block sets up, logging is afterwards as before, but for loggers that were used in it."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    named = [
        logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)
    ]
    levels = {logger: logger.level for logger in (root, *named)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)
        structlog.reset_defaults()


@asynccontextmanager
async def connected_app(settings: Settings, simulator: RunningSimulator) -> AsyncIterator[App]:
    """The application with every seller of the simulator connected."""
    async with open_app(settings) as app:
        for consent in simulator.simulation.accounts.consents.values():
            await app.onboarding.connect(next(iter(consent.codes)), app="default")
        yield app


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def copy_database(url: str, name: str, *, template: str) -> None:
    """A database of that name, with all that is in the template."""
    connection = await asyncpg.connect(url)
    try:
        # Its files are copied at half the cost of its pages; older servers know no other way.
        strategy = " STRATEGY file_copy" if connection.get_server_version() >= (15,) else ""
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}{strategy}")
    finally:
        await connection.close()
