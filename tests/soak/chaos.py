"""The whole product under a nemesis: killed, stopped, cut off and restarted, and its copy is true.

    python -m tests.soak.chaos [--kills 2000] [--seed N] [--per-run 100]

Each run has a seed, a fresh database and a fresh simulator: two daemons and more, backfills beside them,
notifications, short-lived tokens, changes all the time. At its end the tables equal the truth.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from sync.log import set_up_logging
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.acceptance.processes import assert_discreet, bench_environment
from tests.oracle import compare
from tests.proxy import CutRule, Moment, Proxy, postgres_proxy
from tests.soak.chaos_forge import Forge, Forged, open_forge
from tests.soak.chaos_nemesis import LEASE_LIFE_S, Nemesis, Slot, Toll
from tests.soak.chaos_postgres import RestlessPostgres, restless_postgres
from tests.soak.chaos_weather import Weather, draw
from tests.soak.chaos_witness import covered_and_missing, hear_witness, install_witness
from tests.support import connected_app, copy_database, execute, make_server_folder, make_settings

_END_WITHIN_S = 25.0
_DAEMONS = 3
_COMMANDS = 2
_MOST_SHOWN = 20
# Of a signal that comes while asyncio closes a loop: it closes its pipe first and its handlers then.
_LATE_SIGNAL = "Exception ignored when trying to write to the signal wakeup fd:\nTraceback"
# Seconds that a process has for its start before its connections may be cut.
_GRACE_S = 1.0


class Stage:
    """Plays run after run on one Postgres, with one forge."""

    def __init__(self, postgres: RestlessPostgres, forge: Forge, folder: Path) -> None:
        self._postgres = postgres
        self._forge = forge
        self._folder = folder

    async def play(self, seed: int, *, kills: int, pause_s: float = 0.4) -> Toll:
        """What was done in the run of that seed, and what is wrong after it."""
        weather, rng, toll = draw(seed, pause_s=pause_s), random.Random(f"chaos {seed}"), Toll()
        folder = self._folder / f"run-{seed}"
        folder.mkdir()
        self._forge.move_to(folder)
        name = f"shopsync_chaos_{seed}"
        await copy_database(self._postgres.admin_url, name, template=self._postgres.template)
        url = self._postgres.url_of(name)
        async with AsyncExitStack() as stack:
            world = build_world(**weather.world, now=time.time() - 60)
            simulator = await serve(world, options=weather.options)
            stack.push_async_callback(simulator.close)
            async with connected_app(make_settings(url, simulator), simulator):
                pass
            connection = await asyncpg.connect(url)
            await install_witness(connection)
            await connection.close()
            proxy = await stack.enter_async_context(postgres_proxy(url, _Cuts(seed=seed, forge=self._forge)))
            stack.push_async_callback(self._forge.kill_all)
            run = _Run(weather, rng, toll, self._postgres, self._forge, simulator, proxy, url)
            await run.suffer(kills)
            await run.judge()
        toll.problems += self._indiscretions()
        if not toll.problems:
            await execute(self._postgres.admin_url, f"DROP DATABASE {name} WITH (FORCE)")
            shutil.rmtree(folder)
        return toll

    def _indiscretions(self) -> list[str]:
        found = []
        for process in self._forge.processes.values():
            try:
                assert_discreet(process.said().replace(_LATE_SIGNAL, ""))
            except AssertionError as error:
                found.append(f"{process.err} tells a secret or a crash: {error!s:.500}")
        return found


@dataclass(slots=True, kw_only=True)
class _Cuts(CutRule):
    """Meets processes that have begun to work: one whose start is cut off only starts again."""

    forge: Forge

    def strikes(self, moment: Moment, application: str) -> bool:
        pid = application.removeprefix("shopsync pid ")
        process = self.forge.processes.get(int(pid)) if pid.isdigit() else None
        has_begun = process is not None and time.monotonic() - process.started > _GRACE_S
        return has_begun and CutRule.strikes(self, moment, application)


@dataclass(slots=True)
class _Run:
    weather: Weather
    rng: random.Random
    toll: Toll
    postgres: RestlessPostgres
    forge: Forge
    simulator: RunningSimulator
    proxy: Proxy
    url: str

    async def suffer(self, kills: int) -> None:
        """So many processes were killed, and those that are left were told to end and did."""
        await self.simulator.simulation.mutator.set_rate(self.weather.mutations)
        names = [f"daemon{number}" for number in range(_DAEMONS)]
        names += [f"command{number}" for number in range(_COMMANDS)]
        slots = [
            Slot(
                name,
                self.forge,
                self._environment(),
                rng=random.Random(f"{name} {self.weather.seed}"),
                toll=self.toll,
                database_is_up=self.postgres.is_up,
            )
            for name in names
        ]
        keeping = [asyncio.create_task(slot.keep(), name=slot.name) for slot in slots]
        nemesis = Nemesis(
            slots,
            rng=self.rng,
            toll=self.toll,
            postgres=self.postgres,
            proxy=self.proxy,
            simulator=self.simulator,
            database_url=self.url,
        )
        await nemesis.rage(kills, pause_s=self.weather.pause_s)
        self.proxy.rule = CutRule()
        await self._end(slots)
        await asyncio.gather(*keeping)

    def _environment(self) -> dict[str, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return bench_environment(self.proxy.url, self.simulator.url) | {
            "SHOPSYNC_LOG_LEVEL": "info",
            "SHOPSYNC_DATABASE_POOL_SIZE": "5",
            "SHOPSYNC_REQUESTS_PER_SECOND": str(self.weather.pace),
            "SHOPSYNC_REREAD_OPEN_ORDERS_S": str(self.weather.reread_s),
            "SHOPSYNC_WEB__PORT": str(port),
        }

    async def _end(self, slots: list[Slot]) -> None:
        """The processes end in order on SIGTERM, wherever they were."""
        began = time.monotonic()
        told: list[tuple[str, Forged]] = []
        for slot in slots:
            slot.closed.set()
            if slot.process is not None and slot.process.is_running:
                slot.process.send(signal.SIGTERM)
                told.append((slot.name, slot.process))
        for name, process in told:
            code, took_s = await process.finish(), time.monotonic() - began
            self.toll.ends_s.append(took_s)
            # Who has not begun yet ends as any process does, or because Postgres went at that moment.
            has_begun = name.startswith("daemon") and "shopsync is running" in process.said()
            if took_s > _END_WITHIN_S or (has_begun and code != 0):
                self.toll.problems.append(
                    f"{name} ended with {code} {took_s:.1f} s after SIGTERM: {process.err}"
                )

    async def judge(self) -> None:
        """All that is wrong with the copy after a round in which nothing happens is noted."""
        problems = self.toll.problems
        self.toll.requests = self.simulator.simulation.meter.requests
        await self.simulator.simulation.mutator.set_rate(0)
        # The second of the last change is over, and it shows.
        await asyncio.sleep(1.0 + self.weather.options.visibility_lag_s)
        once = await self.forge.start("run", "--once", environment=self._environment(), name="quiet")
        if (code := await once.finish(within_s=120)) != 0:
            problems.append(f"the quiet round ended with {code}: {once.said()[-1000:]}")
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "sync_strict"})
        try:
            problems += await compare(connection, self.simulator.url, self.simulator.world.shops)
            problems += await hear_witness(connection)
            self.toll.writes = await connection.fetchval("SELECT count(*) FROM witness.writes")
            problems += await covered_and_missing(connection, self.simulator.world.shops.values())
        finally:
            await connection.close()


async def play_all(*, kills: int, per_run: int, seed: int, pause_s: float = 0.4) -> Toll:
    """The toll of as many runs as it takes; stops after the first in which something is wrong."""
    total, memory = Toll(), make_server_folder()
    folder = Path(tempfile.mkdtemp(prefix="shopsync-chaos-"))
    try:
        async with restless_postgres(memory) as postgres, open_forge(folder) as forge:
            stage = Stage(postgres, forge, folder)
            number = seed
            while (left := kills - total.kills.total()) > 0 and not total.problems:
                began = time.monotonic()
                try:
                    toll = await stage.play(number, kills=min(per_run, left), pause_s=pause_s)
                except Exception:  # noqa: BLE001  # Whatever it was, the logs are kept.
                    toll = Toll(problems=[f"the run ended with {traceback.format_exc()}"])
                print(f"run {number}, {time.monotonic() - began:.0f} s: {toll}", flush=True)
                total.add(toll)
                number += 1
    finally:
        shutil.rmtree(memory, ignore_errors=True)
    if total.problems:
        print("\n".join(total.problems[:_MOST_SHOWN]))
        print(f"the logs of its processes are in {folder / f'run-{number - 1}'}")
        print(f"again: python -m tests.soak.chaos --kills {per_run} --seed {number - 1}", flush=True)
    else:
        shutil.rmtree(folder)
    return total


def main() -> int:
    """The exit code; prints the seed, a line for each run, the toll and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--per-run", type=int, default=100, help="kills with one database and simulator")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first run; the next has the next"
    )
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between two strikes, on average")
    arguments = parser.parse_args()
    set_up_logging(level="error", log_format="console")
    print(f"seed {arguments.seed}; leases live {LEASE_LIFE_S:g} s here instead of 30", flush=True)
    began = time.monotonic()
    total = asyncio.run(
        play_all(
            kills=arguments.kills, per_run=arguments.per_run, seed=arguments.seed, pause_s=arguments.pause
        )
    )
    print(f"in all, {time.monotonic() - began:.0f} s: {total}")
    return 1 if total.problems else 0


if __name__ == "__main__":
    sys.exit(main())
