"""The daemon's loop over shops that are due: however it ends, it leaves nothing running behind."""

from __future__ import annotations

import asyncio

import pytest

from sync.jobs.local import LocalJobs
from sync.simulator.options import SimulatorOptions
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.support import connected_app, make_settings


async def test_a_daemon_that_is_cut_off_takes_its_syncs_along(
    start_simulator: StartSimulator, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(latency_s=0.2))
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        jobs = LocalJobs(
            fleet=app.fleet, cursors=app.store.cursors, streams=tuple(STREAMS), tick_s=0.01, most_at_once=4
        )
        daemon = asyncio.create_task(jobs.run(asyncio.Event()))
        async with asyncio.timeout(20):
            while not app.fleet.running:
                await asyncio.sleep(0.01)
        daemon.cancel()
        with pytest.raises(asyncio.CancelledError):
            await daemon
        assert app.fleet.running == frozenset()
    assert "sync_crashed" not in capsys.readouterr().out
