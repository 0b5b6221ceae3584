"""shopsync and its peers on the same pages: one simulator process, one server, one after another.

    python -m tests.benchmarks.peers [--quick] [--write]

Each peer lives in an environment of its own below .bench/, made from a lock file. Its rows are
counted in its tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sync.log import set_up_logging
from tests.acceptance.processes import OPTIONS
from tests.benchmarks.postgres import open_server
from tests.benchmarks.processes import ROOT, FailedError, Simulator, end_in_order, measure
from tests.benchmarks.product import Bench
from tests.benchmarks.report import Report, Run, write

_FOLDER = ROOT / ".bench"
_HERE = Path(__file__).parent
# Each with the settings that were the fastest of those that store every order once.
_TARGET = {
    "default_target_schema": "singer",
    "use_copy": True,
    "validate_records": False,
    "load_method": "upsert",
    "activate_version": False,
}
_SETTINGS = {
    "NORMALIZE__WORKERS": "2",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "5000",
    "NORMALIZE__LOADER_FILE_FORMAT": "csv",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "SINGER_SDK_LOG_LEVEL": "ERROR",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to copy orders; ``table`` is where they end up."""

    name: str
    lock: str
    table: str
    make_command: Callable[[Path], list[str | Path]]

    @property
    def python(self) -> Path:
        return _FOLDER / self.lock / "bin" / "python"

    def install(self) -> None:
        """Its environment holds what the lock file says."""
        lock = _HERE / f"{self.lock}.lock"
        stamp = _FOLDER / self.lock / ".installed"
        if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
            return
        print(f"installing {self.name} into {stamp.parent}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", stamp.parent], check=True)
        pip: list[str | Path] = [
            self.python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, "--require-hashes", "-r", lock], check=True)
        stamp.write_bytes(lock.read_bytes())


def _dlt(python: Path, disposition: str) -> list[str | Path]:
    return [python, "-m", "tests.benchmarks.peers.pipeline", disposition]


def _singer(python: Path) -> list[str | Path]:
    tap = f"'{python}' -m tests.benchmarks.peers.tap"
    target = f"'{python.with_name('target-postgres')}' --config target.json"
    return ["bash", "-c", f"set -o pipefail; {tap} | {target}"]


PEERS = (
    Peer("dlt, merge", "dlt", "dlt.orders", lambda python: _dlt(python, "merge")),
    Peer("Singer SDK, target-postgres", "singer", "singer.orders", _singer),
)


@dataclass(frozen=True, slots=True)
class Task:
    """What everybody has to read; of each shop the peers read the newest ``theirs`` orders."""

    shops: int
    orders: int
    theirs: int
    latency_s: float
    rounds: int
    # How many times faster we want to be; 0 where nothing was promised.
    goal: int = 0

    @property
    def shape(self) -> str:
        shops = f"{self.shops} shops" if self.shops > 1 else "one shop"
        return f"{shops}, {self.latency_s:g} s latency"


def read(peer: Peer, bench: Bench, simulator: Simulator, task: Task) -> Run:
    """The peer has read the newest orders of all shops into an empty database, every one of them."""
    since, expected = _since(simulator, task.theirs)
    with bench.server.database("peer", migrated=False) as url:
        environment = os.environ | _SETTINGS | _access(simulator) | {
            "PEER_DATABASE_URL": url, "PEER_SINCE": str(since), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            environment |= {"PEER_FOLDER": folder, "DLT_DATA_DIR": folder, "DLT_PROJECT_DIR": folder}
            target = _TARGET | {"sqlalchemy_url": url.replace("postgresql:", "postgresql+psycopg:", 1)}
            Path(folder, "target.json").write_text(json.dumps(target))
            bench.server.settle(url)
            usage = measure(
                peer.make_command(peer.python),
                environment,
                folder=Path(folder),
                server=bench.server,
                simulator=simulator,
            )
        stored = bench.server.fetch(url, f"SELECT count(*), count(DISTINCT id) FROM {peer.table}")[0]
    if tuple(stored) != (expected, expected):
        raise FailedError(f"{peer.name} stored {stored[1]:,} of {expected:,} orders in {stored[0]:,} rows")
    return Run(peer.name, expected, usage)


def _since(simulator: Simulator, orders: int) -> tuple[int, int]:
    """The update time from which on about so many orders of a shop are, and how many all shops have."""
    lines = [line.split("\t") for line in simulator.truth.open()]
    times = sorted((int(line[3]) for line in lines if line[0] == lines[0][0]), reverse=True)
    since = times[orders - 1] if orders < len(times) else 0
    return since, sum(int(line[3]) >= since for line in lines)


def _access(simulator: Simulator) -> dict[str, str]:
    """What a peer needs to be let in."""
    tokens: dict[str, str] = {}
    for seller in {shop["seller"] for shop in simulator.shops}:
        query = {
            "app_key": OPTIONS.app_key,
            "app_secret": OPTIONS.app_secret,
            "auth_code": simulator.ask("authorize", seller=seller)["code"],
            "grant_type": "authorized_code",
        }
        answer = simulator.get(f"/api/v2/token/get?{urllib.parse.urlencode(query)}")
        tokens[seller] = answer["data"]["access_token"]
    return {
        "PEER_URL": simulator.url,
        "PEER_SHOPS": json.dumps([shop | {"token": tokens[shop["seller"]]} for shop in simulator.shops]),
        "PEER_APP_KEY": OPTIONS.app_key,
        "PEER_APP_SECRET": OPTIONS.app_secret,
    }


def _read_ourselves(bench: Bench, simulator: Simulator, task: Task) -> Run:
    with bench.server.database("peer") as url:
        bench.connect(url, simulator)
        bench.server.settle(url)
        usage = bench.backfill(url, simulator, is_limited=task.latency_s > 0)
    return Run("shopsync", simulator.orders, usage)


def compare(bench: Bench, report: Report, task: Task) -> None:
    """Ours before and after every peer: a machine that slows down meets both. Medians are compared."""
    rates: dict[str, list[float]] = {}

    def add(run: Run) -> None:
        report.add_run(f"{run.name}, {task.shape}", run.orders, run.usage)
        rates.setdefault(run.name, []).append(run.per_second)

    with Simulator(bench.folder, shops=task.shops, orders=task.orders) as simulator:
        limit = 50 if task.latency_s else 0
        simulator.behave(latency_s=task.latency_s, jitter_s=0, limit_per_s=limit)
        add(_read_ourselves(bench, simulator, task))
        for peer in PEERS * task.rounds:
            add(read(peer, bench, simulator, task))
            add(_read_ourselves(bench, simulator, task))
    own = statistics.median(rates.pop("shopsync"))
    for name, theirs in rates.items():
        ratio = own / statistics.median(theirs)
        goal = f"≥ {task.goal}" if task.goal else ""
        report.add_figure(f"shopsync : {name}, {task.shape}", f"{ratio:.1f}", goal)


def tasks(part: int) -> list[Task]:
    """What is compared, at one ``part``-th of its size."""
    return [
        Task(1, 100_000 // part, theirs=5_000 // part, latency_s=0.3, rounds=1, goal=12),
        Task(1, 40_000 // part, theirs=40_000 // part, latency_s=0, rounds=2),
        Task(20, 20_000 // part, theirs=20_000 // part, latency_s=0, rounds=2, goal=5),
    ]


def main(arguments: argparse.Namespace) -> int:
    """The exit code; prints the tables, and writes them where asked to."""
    set_up_logging(level="warning", log_format="auto")
    end_in_order()
    part = 10 if arguments.quick else 1
    report = Report()
    for peer in PEERS:
        peer.install()
    with tempfile.TemporaryDirectory(prefix="shopsync-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with open_server(folder) as server:
            bench = Bench(folder, server)
            try:
                for task in tasks(part):
                    compare(bench, report, task)
            except FailedError as error:
                print(f"nothing is reported: {error}", file=sys.stderr)
                return 1
            text = report.render([_versions()], server_version=server.version)
    print(f"\n{text}")
    if arguments.write:
        write("peers", text)
    return 0


def _versions() -> str:
    wanted = ("dlt", "singer-sdk", "meltanolabs-target-postgres")
    lines = [line for lock in _HERE.glob("*.lock") for line in lock.read_text().splitlines()]
    pins = [line.rstrip(" \\") for line in lines if line.partition("==")[0].partition("[")[0] in wanted]
    return f"Peers: {', '.join(sorted(pins))}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: does everything work?")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    sys.exit(main(parser.parse_args()))
