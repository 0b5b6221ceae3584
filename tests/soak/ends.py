"""How soon a process ends on SIGTERM, and how soon another one goes on after kill -9 or SIGSTOP.

    python -m tests.soak.ends [--terms 100] [--kills 50] [--stops 3] [--seed N]

Leases live as long as they do for users. The moments are drawn from the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from sync.log import set_up_logging
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.acceptance.processes import bench_environment, until
from tests.oracle import compare
from tests.soak.chaos_forge import Forge, Forged, open_forge
from tests.soak.chaos_nemesis import HOLDERS, quantile, spread
from tests.soak.server import own_database
from tests.support import connected_app, make_settings

_END_WITHIN_S = 25.0
_TAKEOVER_WITHIN_S = 35.0
_LONGEST_LIFE_S = 3.0


@dataclass(slots=True)
class Findings:
    """Seconds, and one line for each thing that is wrong."""

    terms_s: list[float] = field(default_factory=list)
    kills_s: list[float] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"SIGTERM to end: {len(self.terms_s)}, {spread(self.terms_s)}\n"
            f"kill -9 to the next owner: {len(self.kills_s)}, {spread(self.kills_s)}\n"
            f"SIGSTOP to the next owner: {len(self.stops_s)}, {spread(self.stops_s)}"
        )


@dataclass(slots=True)
class Endings:
    """Ends daemons in every way."""

    forge: Forge
    environment: Mapping[str, str]
    connection: asyncpg.Connection
    rng: random.Random
    findings: Findings
    longest_life_s: float = _LONGEST_LIFE_S

    async def start(self) -> Forged:
        """A daemon that says it runs."""
        daemon = await self.forge.start("run", environment=self.environment, name="daemon")

        async def runs() -> bool:
            return "shopsync is running" in daemon.said() or not daemon.is_running

        await until(runs, "the daemon runs")
        return daemon

    async def terminate(self, count: int) -> None:
        """So many daemons were told to end at a random moment of their lives, and how long it took."""
        for _ in range(count):
            daemon = await self.start()
            await asyncio.sleep(self.rng.uniform(0, self.longest_life_s))
            began = time.monotonic()
            daemon.send(signal.SIGTERM)
            code = await daemon.finish()
            took_s = time.monotonic() - began
            self.findings.terms_s.append(took_s)
            if code != 0 or took_s > _END_WITHIN_S:
                self.findings.problems.append(f"SIGTERM: {code} after {took_s:.1f} s, see {daemon.err}")

    async def take_over(self, count: int, number: signal.Signals) -> None:
        """So many daemons that had a shop were killed or stopped, and how long until another had it."""
        found = self.findings.kills_s if number == signal.SIGKILL else self.findings.stops_s
        daemons = [await self.start() for _ in range(2)]
        for _ in range(count):
            await asyncio.sleep(self.rng.uniform(0, 1))
            victim, shop_id, epoch = await self._choose(daemons)
            began = time.monotonic()
            victim.send(number)
            await until(self._taken(shop_id, epoch), "the shop is another's", within_s=90, every_s=0.02)
            found.append(time.monotonic() - began)
            victim.send(signal.SIGKILL)
            await victim.finish()
            daemons[daemons.index(victim)] = await self.start()
        if found and quantile(found, 0.99) > _TAKEOVER_WITHIN_S:
            self.findings.problems.append(f"{number.name}: another one took over after {max(found):.1f} s")
        await self.forge.kill_all()

    async def _choose(self, daemons: list[Forged]) -> tuple[Forged, str, int]:
        """A daemon that has a shop at this moment, the shop, and its epoch."""
        while True:
            held = {row["pid"]: row for row in await self.connection.fetch(HOLDERS)}
            working = [daemon for daemon in daemons if daemon.pid in held and daemon.is_running]
            if working:
                victim = self.rng.choice(working)
                return victim, held[victim.pid]["shop_id"], held[victim.pid]["epoch"]
            await asyncio.sleep(0.005)  # Nobody tells who takes a lease.

    def _taken(self, shop_id: str, epoch: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            newest = "SELECT epoch FROM sync.leases WHERE shop_id = $1"
            return bool(await self.connection.fetchval(newest, shop_id) > epoch)

        return holds


@asynccontextmanager
async def endings(folder: Path, url: str, *, seed: int) -> AsyncIterator[tuple[Endings, RunningSimulator]]:
    """A shop that is read all the time, slowly enough to be met at it."""
    options = SimulatorOptions(latency_s=0.05, jitter_s=0.1)
    world = build_world(seed=1, shops=3, orders_per_shop=500, products_per_shop=20, now=time.time() - 60)
    simulator = await serve(world, options=options)
    async with connected_app(make_settings(url, simulator), simulator):
        pass
    connection = await asyncpg.connect(url, server_settings={"search_path": "sync_strict"})
    try:
        async with open_forge(folder) as forge:
            await simulator.simulation.mutator.set_rate(10)
            environment = bench_environment(url, simulator.url) | {"SHOPSYNC_LOG_LEVEL": "info"}
            rng = random.Random(seed)
            yield Endings(forge, environment, connection, rng, Findings()), simulator
    finally:
        await connection.close()
        await simulator.close()


async def end_often(
    folder: Path,
    url: str,
    *,
    terms: int,
    kills: int,
    stops: int,
    seed: int,
    longest_life_s: float = _LONGEST_LIFE_S,
) -> Findings:
    """What was found after so many ends of each kind and a quiet round."""
    async with endings(folder, url, seed=seed) as (ending, simulator):
        ending.longest_life_s = longest_life_s
        await ending.terminate(terms)
        await ending.take_over(kills, signal.SIGKILL)
        await ending.take_over(stops, signal.SIGSTOP)
        await simulator.simulation.mutator.set_rate(0)
        await asyncio.sleep(1)  # The second of the last change is over.
        once = await ending.forge.start("run", "--once", environment=ending.environment, name="quiet")
        if await once.finish(within_s=120) != 0:
            ending.findings.problems.append(f"the quiet round: {once.said()[-1000:]}")
        shops = simulator.world.shops
        ending.findings.problems += await compare(ending.connection, simulator.url, shops)
        return ending.findings


def main() -> int:
    """The exit code; prints the seed, the times and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the moments")
    given = parser.parse_args()
    set_up_logging(level="error", log_format="console")
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    with own_database() as (folder, url):
        findings = asyncio.run(
            end_often(folder, url, terms=given.terms, kills=given.kills, stops=given.stops, seed=given.seed)
        )
    print(findings)
    print("\n".join(findings.problems) or "every end was in order, and the copy is true")
    print(f"took {time.monotonic() - began:.0f} s; again: python -m tests.soak.ends --seed {given.seed}")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
