"""Processes that are measured from outside: what they took, and what the simulator saw of them.

Reads /proc, so it needs Linux.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.benchmarks.postgres import Server

ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_S = 0.25


class FailedError(Exception):
    """A measurement that may not be reported: a process failed, or its rows are not the truth."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process, and Postgres and the simulator for it, took from its start to its end.

    ``stolen`` is the share of this machine's CPU time that its host gave to others meanwhile.
    """

    seconds: float
    cpu_s: float
    postgres_cpu_s: float
    simulator_cpu_s: float
    peak_rss_mib: float
    requests: int
    worst_second: int
    middle_rate: float | None
    stolen: float


class Simulator:
    """A simulator in a process of its own, and what it says about itself."""

    def __init__(self, folder: Path, *, shops: int, orders: int) -> None:
        self.orders = shops * orders
        self.truth = folder / "truth.tsv"
        command = [sys.executable, "-m", "tests.benchmarks.simulator", "--shops", str(shops)]
        command += ["--orders", str(orders), "--truth", str(self.truth)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)

    def __enter__(self) -> Simulator:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except BaseException:
            self._process.kill()
            raise
        if not line:
            raise FailedError("the simulator did not start")
        started = json.loads(line)
        self.url: str = started["url"]
        self.shops: list[dict[str, str]] = started["shops"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    @property
    def cpu_s(self) -> float:
        return cpu_s_of(self._process.pid)

    def behave(self, *, latency_s: float, jitter_s: float, limit_per_s: int) -> None:
        """Answers take ``latency_s`` give or take ``jitter_s``; ``limit_per_s`` 0 is no limit."""
        # The simulator's own jitter is only added.
        self.ask("settings", latency_s=latency_s - jitter_s, jitter_s=2 * jitter_s, limit_per_s=limit_per_s)

    def ask(self, name: str, **body: object) -> Any:
        """The answer of the control endpoint, posted to when there is a body."""
        return self.get(f"/_sim/{name}", json.dumps(body).encode() if body else None)

    def get(self, path: str, body: bytes | None = None) -> Any:
        """Any answer of the simulator that is JSON; a body makes it a POST."""
        with urllib.request.urlopen(f"{self.url}{path}", data=body, timeout=60) as response:
            return json.load(response)

    def clear_faults(self) -> None:
        """Every fault that was asked for is off."""
        request = urllib.request.Request(f"{self.url}/_sim/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()


def end_in_order() -> None:
    """SIGTERM ends this process like Ctrl-C does, with everything that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def measure(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    folder: Path,
    server: Server,
    simulator: Simulator | None = None,
) -> Usage:
    """The command has run to its end in ``folder``. Raises FailedError when it failed."""
    if simulator is not None:
        simulator.ask("stats/reset", now=True)
    before = (server.cpu_s(), simulator.cpu_s if simulator else 0.0)
    stolen_before = stolen_s()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment, cwd=folder, start_new_session=True
        )
        try:
            status, rusage, peak, seen = _watch(process.pid, simulator)
        finally:
            # Nobody is left of it, unless something went wrong here.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.perf_counter() - started
        taken_s = stolen_s() - stolen_before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (folder / "err").read_text(errors="replace")[-3000:]
        raise FailedError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{said}")
    arrivals = list(simulator.ask("stats")["shops"].values()) if simulator else []
    requests = sum(shop["requests"] for shop in arrivals)
    return Usage(
        seconds=seconds,
        cpu_s=rusage.ru_utime + rusage.ru_stime,
        postgres_cpu_s=server.cpu_s() - before[0],
        simulator_cpu_s=simulator.cpu_s - before[1] if simulator else 0.0,
        peak_rss_mib=peak / 2**20,
        requests=requests,
        worst_second=max((shop["worst_second"] for shop in arrivals), default=0),
        middle_rate=middle_rate_of(seen, requests),
        stolen=taken_s / (seconds * (os.cpu_count() or 1)),
    )


def _watch(pid: int, simulator: Simulator | None) -> tuple[int, Any, int, list[tuple[float, int]]]:
    """Exit status, resources, peak bytes of the process and its children, requests over time."""
    peak = 0
    seen: list[tuple[float, int]] = []
    for turn in itertools.count():
        ended, status, rusage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, rusage, peak, seen
        peak = max(peak, _memory_of(pid))
        if simulator is not None:
            asked = time.perf_counter()
            requests = simulator.ask("stats")["requests"]
            seen.append(((asked + time.perf_counter()) / 2, requests))
        # Short processes are watched closely, long ones without taking their cores away.
        time.sleep(min(0.02 * (turn + 1), _EVERY_S))
    raise AssertionError


def _memory_of(pid: int) -> int:
    """Bytes of the process at its worst, or of it and its children now, whichever is more."""
    # Not rusage's figure: that begins with the memory of whoever forked.
    now = worst = 0
    with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        process = psutil.Process(pid)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                worst = int(line.split()[1]) * 1024
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                now += one.memory_info().rss
    return max(now, worst)


def middle_rate_of(seen: list[tuple[float, int]], requests: int) -> float | None:
    """Requests per second between the first and the last fifth of all requests."""
    reached = [_when(seen, share * requests) for share in (0.2, 0.8)]
    if reached[0] is None or reached[1] is None or reached[1] <= reached[0]:
        return None
    return 0.6 * requests / (reached[1] - reached[0])


def _when(seen: list[tuple[float, int]], count: float) -> float | None:
    for (before, low), (after, high) in itertools.pairwise(seen):
        if low < count <= high:
            return before + (after - before) * (count - low) / (high - low)
    return None


def stolen_s() -> float:
    """Seconds that our processors were ready to work and the host let others have them, since the boot."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / _TICKS


def cpu_s_of(pid: int) -> float:
    """Seconds of CPU that a live process has taken, its own threads only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
