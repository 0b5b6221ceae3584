"""A PostgreSQL and a database at this version for one long run."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync.store.embedded import start_server
from sync.store.migrations import migrate_database
from tests.support import execute, with_database


@contextmanager
def own_database() -> Iterator[tuple[Path, str]]:
    """A folder and the address of a database; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="shopsync-soak-"))
    server = start_server(folder / "data", cleanup_mode="delete")
    url = with_database(server.get_uri(), "soak")
    try:
        asyncio.run(execute(server.get_uri(), "CREATE DATABASE soak TEMPLATE template0 ENCODING 'UTF8'"))
        asyncio.run(migrate_database(url))
        yield folder, url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
