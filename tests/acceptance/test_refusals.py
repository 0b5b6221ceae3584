"""What TikTok Shop refuses is explained, and costs no more than it must."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import asyncpg

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import SHOPSYNC, Bench, connect_sellers
from tests.oracle import compare


async def test_a_wrong_app_secret_is_explained(connected: Bench) -> None:
    finished = await connected.shopsync("backfill", APP_SECRET="0123456789abcdef0123456789abcdef01234567")
    assert finished.code == 2
    assert "SHOPSYNC_APP_SECRET" in finished.complaints[-1]
    assert "0123456789abcdef" not in finished.err + finished.out


async def test_an_api_that_cannot_be_reached_is_explained(connected: Bench) -> None:
    with socket.socket() as taken:  # Bound and not listening: a connection is refused for certain.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        finished = await connected.shopsync("backfill", "--stream", "warehouses", API_URL=url)
    assert finished.code == 1
    explained = [line for line in finished.complaints if line.startswith("shopsync: ")]
    assert len(explained) == 3, finished.complaints
    assert all("cannot be reached" in line for line in explained)


async def test_a_withdrawn_consent_costs_the_shops_of_one_seller(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    accounts = simulator.simulation.accounts
    gone, kept = accounts.consents
    accounts.revoke(gone)
    finished = await connected.shopsync("backfill")
    lost = [shop.shop_id for shop in simulator.world.shops_of(gone)]
    assert finished.code == 1
    for shop_id in lost:
        assert any(shop_id in line and "shopsync shops connect" in line for line in finished.complaints)
    others = [shop.shop_id for shop in simulator.world.shops_of(kept)]
    assert await compare(connection, simulator.url, others) == []
    listed = await states(connected)
    assert [listed[shop_id] for shop_id in lost] == ["needs_reauth"] * len(lost)
    assert [listed[shop_id] for shop_id in others] == ["active"] * len(others)


async def test_an_expired_access_token_is_refreshed_in_passing(
    connected: Bench, simulator: RunningSimulator
) -> None:
    simulator.simulation.accounts.expire_access_tokens()
    finished = await connected.shopsync("backfill")
    assert finished.code == 0, finished.err
    assert simulator.simulation.meter.token_refreshes == len(simulator.simulation.accounts.consents)


async def test_an_expired_refresh_token_costs_the_shops_of_one_seller(
    bench: Bench, simulator: RunningSimulator, database_url: str
) -> None:
    simulator.change_options(refresh_token_life_s=0)
    await connect_sellers(database_url, simulator.url, which=slice(0, 1))
    simulator.change_options(refresh_token_life_s=86_400)
    await connect_sellers(database_url, simulator.url, which=slice(1, None))
    accounts = simulator.simulation.accounts
    accounts.expire_access_tokens()
    finished = await bench.shopsync("run", "--once")
    assert finished.code == 1
    gone, kept = accounts.consents
    listed = await states(bench)
    assert {listed[shop.shop_id] for shop in simulator.world.shops_of(gone)} == {"needs_reauth"}
    assert {listed[shop.shop_id] for shop in simulator.world.shops_of(kept)} == {"active"}


async def states(bench: Bench) -> dict[str, str]:
    """The state of each shop as `status --json` tells it."""
    told = json.loads((await bench.shopsync("status", "--json")).out)
    return {row["shop_id"]: row["state"] for row in told}


async def test_a_reader_that_goes_away_is_no_reason_to_complain(connected: Bench) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = await asyncio.create_subprocess_exec(
        SHOPSYNC, "status", stdout=write_end, stderr=asyncio.subprocess.PIPE, env=connected.environment
    )
    os.close(write_end)
    _, told = await asyncio.wait_for(process.communicate(), 30)
    assert told == b""
    assert process.returncode == 1
