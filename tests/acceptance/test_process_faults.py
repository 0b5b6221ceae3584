"""What a machine does to a process: full pipes and disks, too few files, too little memory, short lives."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import SHOPSYNC, Bench, bench_environment, connect_sellers, until
from tests.acceptance.test_daemon import becomes_true, end
from tests.conftest import StartSimulator
from tests.oracle import compare

_HALF_A_GIGABYTE = 512 << 20


@contextmanager
def unread_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full already, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    """A file on a disk without room."""
    number = os.open("/dev/full", os.O_WRONLY)
    yield number
    os.close(number)


@pytest.mark.parametrize("place", [unread_pipe, full_disk])
async def test_a_daemon_whose_log_has_no_place_syncs_on(
    connected: Bench,
    simulator: RunningSimulator,
    connection: asyncpg.Connection,
    place: Callable[[], AbstractContextManager[int]],
) -> None:
    # Nor is there a place for temporary files.
    environment = connected.environment | {"TMPDIR": "/nonexistent"}
    with place() as log, full_disk() as out:
        daemon = await asyncio.create_subprocess_exec(
            SHOPSYNC, "run", stdout=out, stderr=log, env=environment
        )
        try:
            await becomes_true(connection, simulator, list(simulator.world.shops))
            for _ in range(20):
                simulator.simulation.mutations.mutate()
            await becomes_true(connection, simulator, list(simulator.world.shops))
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(daemon.wait(), 25) == 0
        finally:
            if daemon.returncode is None:
                daemon.kill()
                await daemon.wait()


async def test_a_backfill_with_too_few_files_backs_off_and_a_later_one_completes_it(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    simulator.change_options(latency_s=0.1)
    backfill = await connected.start("backfill", DATABASE_POOL_SIZE="4")
    await until(lambda: _has_orders(connection), "the first orders are stored")
    limit = len(os.listdir(f"/proc/{backfill.pid}/fd")) + 1
    resource.prlimit(backfill.pid, resource.RLIMIT_NOFILE, (limit, limit))
    finished = await backfill.finish(within_s=90)
    assert finished.code in (0, 1)
    # Whatever could not be asked for was not asked for without a pause.
    assert simulator.simulation.meter.requests < 2000
    assert (await connected.shopsync("backfill")).code == 0
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def _has_orders(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM tiktok.orders)"))


async def test_a_backfill_that_runs_out_of_memory_loses_nothing(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    simulator.change_options(latency_s=0.05)
    backfill = await asyncio.create_subprocess_exec(
        SHOPSYNC, "backfill", env=connected.environment, stderr=asyncio.subprocess.DEVNULL
    )
    await until(lambda: _has_orders(connection), "the first orders are stored")
    status = Path(f"/proc/{backfill.pid}/status").read_text()
    limit = 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmSize")))
    resource.prlimit(backfill.pid, resource.RLIMIT_AS, (limit, limit))
    assert await asyncio.wait_for(backfill.wait(), 90) != 0
    assert (await connected.shopsync("backfill")).code == 0
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_fifty_shops_at_once_fit_into_half_a_gigabyte(
    tmp_path: Path, database_url: str, start_simulator: StartSimulator
) -> None:
    shops = await start_simulator(shops=50, orders_per_shop=30, products_per_shop=8, flash_sale_orders=0)
    await connect_sellers(database_url, shops.url)
    bench = Bench(tmp_path, bench_environment(database_url, shops.url))
    backfill = await bench.start("backfill")
    resource.prlimit(backfill.pid, resource.RLIMIT_AS, (_HALF_A_GIGABYTE, _HALF_A_GIGABYTE))
    finished = await backfill.finish()
    assert finished.code == 0, finished.err[-2000:]
    await bench.close()


async def test_lives_shorter_than_the_daemon_s_beat_get_there_in_the_end(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    """Each life ends with the first slice that it closes, long before a second ring."""
    simulator.change_options(latency_s=0.02)
    question = "SELECT count(*) FROM sync.slices"
    for _ in range(3):
        before = await connection.fetchval(question)
        daemon = await connected.start("run", INTERVALS__ORDERS_S="3600", INTERVALS__PRODUCTS_S="3600")

        async def has_closed_one(before: int = before) -> bool:
            return bool(await connection.fetchval(question) > before)

        await until(has_closed_one, "a life closes a slice")
        await daemon.kill()
    daemon = await connected.start("run")
    await becomes_true(connection, simulator, list(simulator.world.shops))
    await end(daemon)


async def test_a_running_daemon_outlives_columns_that_a_newer_version_adds(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    daemon = await connected.start("run")
    await becomes_true(connection, simulator, list(simulator.world.shops))
    tables = await connection.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname IN ('sync', 'tiktok')"
    )
    for table in tables:
        await connection.execute(f"ALTER TABLE {table['name']} ADD COLUMN of_a_newer_version text")
    for _ in range(20):
        simulator.simulation.mutations.mutate()
    await becomes_true(connection, simulator, list(simulator.world.shops))
    await end(daemon)
    assert '"level": "error"' not in daemon.err


async def test_a_daemon_and_a_backfill_share_a_shop_and_its_limit(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    simulator.change_options(latency_s=0.05)
    daemon = await connected.start("run")
    await until(lambda: _has_orders(connection), "the daemon reads")
    backfill = await connected.start("backfill")
    simulator.simulation.mutations.mutate()
    finished = await backfill.finish()
    assert finished.code == 0, finished.err
    await becomes_true(connection, simulator, list(simulator.world.shops))
    await end(daemon)
    meter = simulator.simulation.meter
    assert max(meter.of(shop_id).worst_second for shop_id in simulator.world.shops) <= 50
