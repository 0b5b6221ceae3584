"""Kill -9 inside the refresh, again and again: the consent is never lost.

    python -m tests.soak.kills [--kills 200] [--seed N]

The simulated TikTok kills the old refresh token at once and takes its time to hand out the new one, so
that whoever dies between the two has lost it, if nobody else holds the line.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from sync.app import open_app
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.soak.server import own_database
from tests.support import environment_of, make_settings

_ROOT = Path(__file__).parents[2]
_REFRESH = "/api/v2/token/refresh"
_ANSWER_S = 0.15
# Up to a moment after the answer: some die between it and what they do with it.
_LONGEST_S = 0.3
_PATIENCE_S = 60.0


async def kill_often(
    database_url: str, simulator: RunningSimulator, *, kills: int, seed: int = 1
) -> list[str]:
    """One line for each thing that is wrong after so many deaths; empty when nothing was lost."""
    rng = random.Random(seed)
    settings = make_settings(database_url, simulator)
    async with open_app(settings) as app:
        await app.onboarding.connect(simulator.sellers()[0].code, app="default")
    simulator.change_options(old_refresh_dies=True, old_access_dies=True)
    simulator.simulation.faults.add({"fault": "slow", "seconds": _ANSWER_S, "path": _REFRESH})
    environment = environment_of(database_url, simulator.url, simulator.options)
    connection = await asyncpg.connect(database_url)
    problems: list[str] = []
    try:
        credential_id = await connection.fetchval("SELECT credential_id FROM sync.credentials")
        for number in range(1, kills + 1):
            said = await _kill_one(credential_id, environment, simulator, rng)
            if said != "works":
                problems.append(f"death {number} of {kills}: the tokens were {said} for the next process")
                break
        problems += await _wrong_counts(connection, simulator)
    finally:
        await connection.close()
    return problems


async def _kill_one(
    credential_id: int, environment: Mapping[str, str], simulator: RunningSimulator, rng: random.Random
) -> str:
    """The first word of a fresh process, which then was killed inside a later refresh."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.soak.victim",
        str(credential_id),
        stdout=asyncio.subprocess.PIPE,
        env=dict(environment) | {"PYTHONPATH": str(_ROOT)},
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)
        asked = simulator.simulation.meter.token_refreshes
        async with asyncio.timeout(_PATIENCE_S):
            while line.startswith(b"works") and simulator.simulation.meter.token_refreshes == asked:
                await asyncio.sleep(0.002)
        await asyncio.sleep(rng.uniform(0, _LONGEST_S))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return line.decode().split(" ")[0].strip() or "silent"


async def _wrong_counts(connection: asyncpg.Connection, simulator: RunningSimulator) -> list[str]:
    """Every pair that was handed out is stored in the end, and no dead refresh token was ever shown."""
    meter = simulator.simulation.meter
    generations = -1
    async with asyncio.timeout(_PATIENCE_S):
        while generations != meter.token_refreshes:
            generations = await connection.fetchval("SELECT generation - 1 FROM sync.credentials")
            if meter.codes[36004005]:
                break
            await asyncio.sleep(0.01)
    dead = meter.codes[36004005]
    return [f"{dead} refreshes were tried with a dead token"] if dead else []


async def _run(database_url: str, *, kills: int, seed: int) -> list[str]:
    world = build_world(seed=1, shops=1, orders_per_shop=1, products_per_shop=1, flash_sale_orders=0)
    simulator = await serve(world)
    try:
        return await kill_often(database_url, simulator, kills=kills, seed=seed)
    finally:
        await simulator.close()


def main() -> int:
    """The exit code; prints what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the moments of death")
    arguments = parser.parse_args()
    kills, seed = arguments.kills, arguments.seed
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    with own_database() as (_, url):
        problems = asyncio.run(_run(url, kills=kills, seed=seed))
    print("\n".join(problems) or f"{kills} deaths inside the refresh, and the consent works as before")
    print(f"took {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
