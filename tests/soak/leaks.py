"""The daemon among faults for ten minutes: memory, files and tasks stay what they are.

    python -m tests.soak.leaks [--minutes 10] [--seed N]

One request in twenty fails, in every way that costs a retry. The means of the last third and of the one
before are compared; the first third is for growing up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import aiohttp

from sync.log import set_up_logging
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.acceptance.processes import Bench, Process, bench_environment, page_of
from tests.soak.server import own_database
from tests.support import connected_app, make_settings

# A share of the requests for each, 5 % in all.
_FAULTS = (
    {"fault": "rate_limited", "retry_after": 1},
    {"fault": "internal_error"},
    {"fault": "reset_mid_body"},
    {"fault": "truncated_body"},
    {"fault": "slow", "seconds": 1.0},
)
_SHARE = 0.05 / len(_FAULTS)
# What the last third may have more than the one before: a share of it, and a few besides.
_TOLERATED = {"memory, MiB": (0.03, 1.0), "files": (0.05, 2.0), "tasks": (0.05, 3.0)}


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment."""

    memory_mib: float
    files: int
    tasks: int


Judgement = tuple[list[str], list[str]]


async def watch_for_leaks(
    folder: Path, url: str, *, seconds: float, seed: int
) -> tuple[list[str], list[str]]:
    """One line for each quantity, and one for each that has grown."""
    options = SimulatorOptions(seed=seed, latency_s=0.02, access_token_life_s=60, old_refresh_dies=True)
    world = build_world(seed=seed, shops=5, orders_per_shop=1500, now=time.time() - 60)
    simulator = await serve(world, options=options)
    bench = Bench(folder, bench_environment(url, simulator.url) | {"SHOPSYNC_LOG_LEVEL": "warning"})
    try:
        async with connected_app(make_settings(url, simulator), simulator):
            pass
        for fault in _FAULTS:
            simulator.simulation.faults.add({**fault, "probability": _SHARE})
        await simulator.simulation.mutator.set_rate(10)
        daemon = await bench.start("run")
        simulator.change_options(notify_url=f"{await page_of(daemon)}/webhooks/tiktok")
        samples = await _sample(daemon, await page_of(daemon), seconds)
        struck = sum(rule.struck for rule in simulator.simulation.faults.rules)
        daemon.send(signal.SIGTERM)
        ended = await daemon.finish(within_s=25)
        said, wrong = judge(samples)
        said.append(f"{_requests(simulator)} requests, {struck} of which failed; {len(samples)} samples")
        return said, wrong + ([f"the daemon ended with {ended.code}"] if ended.code else [])
    finally:
        await bench.close()
        await simulator.close()


def _requests(simulator: RunningSimulator) -> int:
    return simulator.simulation.meter.requests


async def _sample(daemon: Process, page: str, seconds: float) -> list[Sample]:
    samples = []
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            await asyncio.sleep(1)
            async with session.get(f"{page}/metrics") as answer:
                tasks = re.search(r"^shopsync_tasks (\S+)", await answer.text(), re.MULTILINE)
            assert tasks is not None
            status = Path(f"/proc/{daemon.pid}/status").read_text()
            resident = re.search(r"VmRSS:\s+(\d+)", status)
            assert resident is not None
            files = len(os.listdir(f"/proc/{daemon.pid}/fd"))
            samples.append(Sample(int(resident[1]) / 1024, files, int(float(tasks[1]))))
    return samples


def judge(samples: Sequence[Sample]) -> Judgement:
    """One line for each quantity, and those of what is higher in the last third than it may be."""
    columns: dict[str, list[float]] = {
        "memory, MiB": [sample.memory_mib for sample in samples],
        "files": [sample.files for sample in samples],
        "tasks": [sample.tasks for sample in samples],
    }
    said, wrong = [], []
    for name, values in columns.items():
        third = len(values) // 3
        thirds = [mean(values[start : start + third]) for start in (0, third, 2 * third)]
        share, besides = _TOLERATED[name]
        means = ", ".join(f"{value:.1f}" for value in thirds)
        line = f"{name}: {means} in the thirds, at most {max(values):.0f}"
        said.append(line)
        if thirds[2] > thirds[1] * (1 + share) + besides:
            wrong.append(f"grows: {line}")
    return said, wrong


def main() -> int:
    """The exit code; prints what was measured and what grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    set_up_logging(level="error", log_format="console")
    print(f"seed {given.seed}", flush=True)
    with own_database() as (folder, url):
        said, wrong = asyncio.run(watch_for_leaks(folder, url, seconds=given.minutes * 60, seed=given.seed))
    print("\n".join(said + wrong) if wrong else "\n".join([*said, "nothing grows"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
