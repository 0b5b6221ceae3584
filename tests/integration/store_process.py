"""A process for tests to stop and kill: reads commands from stdin, says one line for each."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg

from sync.app import open_app
from sync.errors import SyncError
from sync.log import set_up_logging
from sync.settings import load_settings
from sync.store.leases import LeaseKeeper
from sync.store.migrations import list_migrations, migrate
from sync.store.pool import Database
from sync.store.sink import Sink
from tests.integration.store_probe import ORDERS, SHOP, closing, order, page


def say(text: object) -> None:
    print(text, flush=True)


async def next_command() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


async def own(url: str) -> None:
    """Commands: take (says the epoch or None), write ORDER (says the inserted rows or the error)."""
    async with Database(url, size=2) as database, LeaseKeeper(url) as keeper:
        sink = Sink(database)
        lease = None
        say("ready")
        while command := await next_command():
            try:
                if command == "take":
                    lease = await keeper.acquire(SHOP)
                    say(lease.epoch if lease else None)
                elif lease is not None:
                    order_id = command.split()[1]
                    end = closing(0, 10)
                    say(
                        (await sink.write(ORDERS, page([order(order_id)]), lease=lease, closing=end)).inserted
                    )
            except SyncError as error:
                say(type(error).__name__)


async def run_migrations(url: str, folder: str) -> None:
    """Applies the folder's migrations after any line on stdin."""
    connection = await asyncpg.connect(url)
    scripts = list_migrations(Path(folder))
    say("ready")
    await next_command()
    say(json.dumps(await migrate(connection, migrations=scripts, views=[])))


async def refresh(credential_id: str, tasks: str) -> None:
    """Renews the tokens of the environment's database in many tasks at once, after any line."""
    async with open_app(load_settings()) as app:
        known = await app.tokens.current(int(credential_id))
        say("ready")
        await next_command()
        renewed = await asyncio.gather(
            *(app.tokens.renew(int(credential_id), seen=known.generation) for _ in range(int(tasks)))
        )
        say(len({c.access_token for c in renewed}))
        say(renewed[0].generation)


PARTS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "own": own,
    "migrate": run_migrations,
    "refresh": refresh,
}

if __name__ == "__main__":
    # Stdout is for what the tests wait for.
    set_up_logging(level="error", log_format="json")
    asyncio.run(PARTS[sys.argv[1]](*sys.argv[2:]))
