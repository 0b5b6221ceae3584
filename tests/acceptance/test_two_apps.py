"""Two apps of two portals on two hosts, each with shops of its own."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.acceptance.processes import Bench, bench_environment
from tests.oracle import compare

US_SECRET = "5e" * 20
GLOBAL_SECRET = "7a" * 20
# Different seeds draw from one range of ids: these two meet nowhere.
APPS = {
    "us": (11, "127.0.0.1", SimulatorOptions(app_key="us-key", app_secret=US_SECRET, service_id="111")),
    "global": (
        12,
        "127.0.0.2",
        SimulatorOptions(app_key="global-key", app_secret=GLOBAL_SECRET, service_id="222"),
    ),
}


async def start(name: str) -> RunningSimulator:
    seed, host, options = APPS[name]
    world = build_world(seed=seed, shops=2, orders_per_shop=40, products_per_shop=5, flash_sale_orders=0)
    return await serve(world, host=host, options=options)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "two.toml"


async def test_a_seller_who_withdraws_parks_only_the_shops_of_that_consent(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection, config: Path
) -> None:
    portals = {name: await start(name) for name in APPS}
    config.write_text(
        "\n".join(
            f'[apps.{name}]\napp_key = "{APPS[name][2].app_key}"\n'
            f'api_url = "{portal.url}"\nauth_url = "{portal.url}"'
            for name, portal in portals.items()
        )
    )
    environment = bench_environment(database_url, "http://127.0.0.1:9")
    for name in ("APP_KEY", "APP_SECRET"):
        del environment[f"SHOPSYNC_{name}"]
    environment |= {f"SHOPSYNC_APPS__{name.upper()}__APP_SECRET": APPS[name][2].app_secret for name in APPS}
    bench = Bench(tmp_path, environment)
    try:
        await connect_all(bench, config, portals)
        finished = await bench.shopsync("--config", str(config), "run", "--once")
        assert finished.code == 0, finished.err
        for portal in portals.values():
            assert await compare(connection, portal.url, portal.world.shops) == []

        withdrawn, *_ = portals["us"].simulation.accounts.consents
        portals["us"].simulation.accounts.revoke(withdrawn)
        (parked,) = [shop.shop_id for shop in portals["us"].world.shops_of(withdrawn)]
        for _ in range(2):  # The second round does not even ask for the shop, and is no success either.
            finished = await bench.shopsync("--config", str(config), "run", "--once")
            assert finished.code == 1
            complaints = [line for line in finished.complaints if parked in line]
            assert complaints
            assert "shopsync shops connect" in complaints[0]
        states = await connection.fetch("SELECT shop_id, state FROM sync.shops WHERE state <> 'active'")
        assert [tuple(row) for row in states] == [(parked, "needs_reauth")]
        status = await bench.shopsync("--config", str(config), "status")
        assert status.out.count("  needs_reauth: The seller must consent again") == 1
        assert status.out.count(" waits ") == len(await streams(connection, parked))
        listed = (await bench.shopsync("--config", str(config), "shops", "list")).out
        assert {name: listed.count(f" {name} ") for name in APPS} == {"us": 2, "global": 2}
    finally:
        await bench.close()
        for portal in portals.values():
            await portal.close()
    for process in bench._started:
        assert US_SECRET not in process.out + process.err
        assert GLOBAL_SECRET not in process.out + process.err


async def connect_all(bench: Bench, config: Path, portals: dict[str, RunningSimulator]) -> None:
    for name, portal in portals.items():
        for seller in portal.sellers():
            finished = await bench.shopsync(
                "--config", str(config), "shops", "connect", "--app", name, "--code", seller.code
            )
            assert finished.code == 0, finished.err


async def streams(connection: asyncpg.Connection, shop_id: str) -> list[str]:
    rows = await connection.fetch("SELECT stream FROM sync.cursors WHERE shop_id = $1", shop_id)
    return [row["stream"] for row in rows]
