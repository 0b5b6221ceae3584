"""A shop that TikTok names anew: its new cipher is taken without a new consent."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all
from tests.oracle import compare
from tests.support import connected_app, make_settings

_CIPHERS = "SELECT shop_id, cipher FROM sync.shops"


def give_new_cipher(simulator: RunningSimulator, shop_id: str) -> str:
    """The cipher by which alone the simulator knows the shop from now on."""
    world = simulator.world
    shop = world.shops[shop_id]
    del world.shop_by_cipher[shop.cipher]
    shop.cipher = world.ids.opaque("GCP_", 26)
    world.shop_by_cipher[shop.cipher] = shop
    return shop.cipher


@pytest.mark.parametrize("code", [101000, 36009004])
async def test_a_new_cipher_is_looked_up_once_and_kept(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection, code: Any
) -> None:
    simulator = await start_simulator(shops=2, options=SimulatorOptions(unknown_cipher_code=code))
    renamed, other = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        await sync_all(app)
        cipher = give_new_cipher(simulator, renamed)
        with capture_logs() as logs:
            reports = await sync_all(app)
        assert [(r.outcome, r.problems) for r in reports] == [("complete", [])] * 2
        assert [log["event"] for log in logs].count("shop_cipher_renewed") == 1
        assert cipher not in repr(logs)
        simulator.simulation.meter.reset()
        await sync_all(app)
        assert not simulator.simulation.meter.codes
    assert dict(await connection.fetch(_CIPHERS)) == {
        renamed: cipher,
        other: simulator.world.shops[other].cipher,
    }
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_a_cipher_that_is_refused_and_is_the_newest_parks_its_shop_alone(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=2)
    refused, other = simulator.world.shops
    async with connected_app(make_settings(database_url, simulator, settle_s=0), simulator) as app:
        await sync_all(app)
        simulator.simulation.faults.add({"fault": "revoked", "code": 101000, "shop_id": refused})
        await sync_all(app)
    states = dict(await connection.fetch("SELECT shop_id, state FROM sync.shops"))
    assert states == {refused: "needs_reauth", other: "active"}
