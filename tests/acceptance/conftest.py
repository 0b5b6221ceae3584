"""Processes for the acceptance tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench, bench_environment, connect_sellers
from tests.conftest import StartSimulator


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    """Two sellers' shops, in this process: a test may change them as it likes."""
    return await start_simulator(shops=3, orders_per_shop=300)


@pytest.fixture
async def bench(tmp_path: Path, database_url: str, simulator: RunningSimulator) -> AsyncIterator[Bench]:
    """Processes that sync from the simulator; no shop is connected yet."""
    opened = Bench(tmp_path, bench_environment(database_url, simulator.url))
    yield opened
    await opened.close()


@pytest.fixture
async def connected(bench: Bench, database_url: str, simulator: RunningSimulator) -> Bench:
    """The same with every shop of the simulator connected."""
    await connect_sellers(database_url, simulator.url)
    return bench
