"""SIGTERM and Ctrl-C end the daemon in order, whatever it is waiting for."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from sync.simulator.server import RunningSimulator
from sync.store.migrations import migrate_database
from tests.acceptance.postgres import OwnPostgres, own_postgres
from tests.acceptance.processes import Bench, Process, bench_environment, connect_sellers, page_of, until
from tests.oracle import compare

_ENDS_WITHIN_S = 25


async def hangs(simulator: RunningSimulator, process: Process, *, path: str) -> None:
    """The process waits for an answer that never comes."""
    rule = simulator.simulation.faults.add({"fault": "hang", "path": path})

    async def holds() -> bool:
        assert process.is_running, process.err
        return rule.struck > 0

    await until(holds, "the process asks and waits")


async def test_sigterm_ends_an_idle_daemon_in_order(connected: Bench, connection: asyncpg.Connection) -> None:
    daemon = await connected.start("run")

    async def is_synced() -> bool:
        missing = "SELECT count(*) FROM sync.cursors WHERE succeeded_at IS NULL"
        return bool(await connection.fetchval(missing) == 0)

    await until(is_synced, "every stream is synced")
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=_ENDS_WITHIN_S)).code == 0


async def test_sigterm_during_a_backfill_loses_nothing(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    simulator.change_options(latency_s=0.6)
    daemon = await connected.start("run")

    async def is_reading() -> bool:
        return bool(await connection.fetchval("SELECT count(*) > 0 FROM tiktok.orders"))

    await until(is_reading, "the first orders are stored")
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=_ENDS_WITHIN_S)).code == 0
    held = await connection.fetchval("SELECT count(*) FROM sync.leases WHERE expires_at > now()")
    assert held == 0
    simulator.change_options(latency_s=0.0)
    assert (await connected.shopsync("run", "--once")).code == 0
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_sigterm_ends_a_daemon_whose_requests_hang(
    connected: Bench, simulator: RunningSimulator
) -> None:
    daemon = await connected.start("run")
    await hangs(simulator, daemon, path="search")
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=_ENDS_WITHIN_S)).code == 0


async def test_a_second_signal_ends_the_daemon_at_once(connected: Bench, simulator: RunningSimulator) -> None:
    daemon = await connected.start("run")
    url = await page_of(daemon)
    await hangs(simulator, daemon, path="search")
    daemon.send(signal.SIGTERM)

    async def is_ending() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
            return response.status == 503

    await until(is_ending, "the daemon heeds the first signal")
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=5)).code == 128 + signal.SIGTERM


async def test_ctrl_c_ends_a_hanging_backfill_as_interrupted(
    connected: Bench, simulator: RunningSimulator
) -> None:
    run = await connected.start("backfill")
    await hangs(simulator, run, path="/authorization/")
    run.send(signal.SIGINT)
    assert (await run.finish(within_s=_ENDS_WITHIN_S)).code == 130


@pytest.fixture
async def postgres() -> AsyncIterator[OwnPostgres]:
    """A server that a test may kill."""
    async with own_postgres() as server:
        await migrate_database(server.url)
        yield server


async def test_sigterm_ends_a_daemon_whose_postgres_is_gone(
    tmp_path: Path, postgres: OwnPostgres, simulator: RunningSimulator
) -> None:
    await connect_sellers(postgres.url, simulator.url)
    bench = Bench(tmp_path, bench_environment(postgres.url, simulator.url))
    try:
        daemon = await bench.start("run")
        url = await page_of(daemon)
        async with aiohttp.ClientSession() as session:

            async def answers(status: int) -> bool:
                async with session.get(f"{url}/readyz") as response:
                    return response.status == status

            await until(lambda: answers(200), "the daemon is ready")
            postgres.kill()
            await until(lambda: answers(503), "the daemon misses its database")
            async with session.get(f"{url}/healthz") as response:
                assert response.status == 200
        daemon.send(signal.SIGTERM)
        assert (await daemon.finish(within_s=_ENDS_WITHIN_S)).code == 0
    finally:
        await bench.close()


@pytest.mark.parametrize("command", ["run", "backfill"])
async def test_a_second_signal_does_not_wait_for_a_frozen_postgres(
    tmp_path: Path, postgres: OwnPostgres, simulator: RunningSimulator, command: str
) -> None:
    await connect_sellers(postgres.url, simulator.url)
    bench = Bench(tmp_path, bench_environment(postgres.url, simulator.url))
    simulator.change_options(latency_s=0.3)
    try:
        process = await bench.start(command)

        async def reads() -> bool:
            return simulator.simulation.meter.requests > 10

        await until(reads, "the shops are being read")
        with postgres.frozen():
            # Two of a kind could reach it as one, and these two in either order.
            process.send(signal.SIGINT)
            process.send(signal.SIGTERM)
            # Less than a single signal's grace.
            ended = await process.finish(within_s=15)
        assert ended.code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    finally:
        await bench.close()
