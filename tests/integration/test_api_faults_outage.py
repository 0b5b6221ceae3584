"""Hours without an answer of TikTok Shop, played in a few seconds: what falls due is made due at once."""

from __future__ import annotations

import asyncpg
import pytest

from sync.app import App
from sync.engine.requests import SyncRequest
from sync.simulator.options import SimulatorOptions
from sync.streams.registry import STREAMS
from sync.tiktok import client as client_module
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all
from tests.oracle import compare
from tests.support import connected_app, make_settings

_HOUR_S = 3600.0
_NEXT_S = "SELECT greatest(0, extract(epoch FROM min(due_at) - now()))::float FROM sync.cursors"
_SKIP = "UPDATE sync.cursors SET due_at = due_at - make_interval(secs => $1)"


async def skip_to_the_next_round(app: App, connection: asyncpg.Connection) -> float:
    """What is due next was tried; the seconds that nobody had to wait for it."""
    wait_s = await connection.fetchval(_NEXT_S)
    await connection.execute(_SKIP, wait_s)
    for shop_id, streams in await app.store.cursors.due_shops(tuple(STREAMS), at_most=10):
        await app.fleet.sync(SyncRequest(shop_id, streams, "test"))
    return float(wait_s)


async def test_hours_of_maintenance_cost_few_requests_and_no_row(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.001)
    options = SimulatorOptions(limit_per_s=0)
    size = {"shops": 2, "orders_per_shop": 40, "products_per_shop": 10, "flash_sale_orders": 0}
    simulator = await start_simulator(options=options, **size)
    settings = make_settings(database_url, simulator, settle_s=0, requests_per_second=1000)
    async with connected_app(settings, simulator) as app:
        await sync_all(app)
        simulator.simulation.meter.reset()
        simulator.simulation.faults.add({"fault": "unavailable_html", "http": 503})
        waits: list[float] = []
        while sum(waits) < 6 * _HOUR_S:
            waits.append(await skip_to_the_next_round(app, connection))
        # Six attempts of each stream and shop an hour once the waits have grown, and the way there.
        assert simulator.simulation.meter.requests < 2 * len(STREAMS) * 6 * (6 + 4)
        states = {row.shop.state for row in await app.store.shops.list()}
        assert states == {"active"}
        for _ in range(40):
            simulator.simulation.mutations.mutate()
        simulator.simulation.faults.remove()
        caught_up_s = 0.0
        while await connection.fetchval("SELECT max(failures) FROM sync.cursors"):
            caught_up_s += await skip_to_the_next_round(app, connection)
        assert caught_up_s <= 1.1 * _HOUR_S
        await sync_all(app)
    assert await compare(connection, simulator.url, simulator.world.shops) == []
