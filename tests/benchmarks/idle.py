"""What quiet shops cost: one daemon that polls them all, its CPU, its memory, and Postgres's CPU.

    python -m tests.benchmarks.idle [--shops 10000] [--minutes 2]

Simulator, worker and Postgres are processes of their own. The daemon connects to shops without
orders, reads their history once, and is measured only after every shop had its turn again.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from sync.app import open_app
from sync.log import set_up_logging
from sync.settings import load_settings
from sync.simulator.options import SimulatorOptions
from sync.store.embedded import start_server
from sync.store.migrations import migrate_database
from tests.support import ENCRYPTION_KEY, environment_of, execute, with_database

_POLLED = "/order/202309/orders/search"
_SAMPLE_S = 5.0
_CONNECTING = 16
# From the first round's end until the shops are spread over their intervals.
_SETTLE_S = 100.0
_OPTIONS = SimulatorOptions()


@dataclass(slots=True)
class Idle:
    """One measurement. CPU is in cores: CPU seconds per second."""

    shops: int
    seconds: float
    polls: int
    requests: int
    worker_cores: float
    postgres_cores: float
    worker_peak_mib: float
    first_round_s: float
    rows_added: int
    transactions: int
    slowest_lag_s: float
    polls_per_second: list[float] = field(default_factory=list)

    @property
    def worker_ms(self) -> float:
        """CPU milliseconds of the worker for one poll."""
        return self.worker_cores * self.seconds * 1000 / max(self.polls, 1)

    @property
    def postgres_ms(self) -> float:
        """CPU milliseconds of Postgres for one poll."""
        return self.postgres_cores * self.seconds * 1000 / max(self.polls, 1)

    @property
    def polls_per_core_second(self) -> float:
        """Polls for each CPU second of the worker."""
        return 1000 / self.worker_ms

    @property
    def polls_per_core_second_in_all(self) -> float:
        """Polls for each CPU second of worker and Postgres."""
        return 1000 / (self.worker_ms + self.postgres_ms)


async def measure(shops: int, seconds: float, *, say: Callable[[str], None] = lambda _: None) -> Idle:
    """What ``shops`` quiet shops cost in ``seconds`` of steady polling. Takes some minutes before."""
    with (
        tempfile.TemporaryDirectory(prefix="shopsync-idle-") as folder,
        _postgres(Path(folder)) as (url, main),
    ):
        await execute(url, "CREATE DATABASE idle TEMPLATE template0 ENCODING 'UTF8'")
        url = with_database(url, "idle")
        await migrate_database(url)
        arguments = [
            "simulator", "--port", "0", "--shops", str(shops), "--orders", "0", "--products", "1",
            "--mutations", "0", "--latency", "0.1", "--jitter", "0.03",
        ]  # fmt: skip
        with _process(arguments, Path(folder), environment=None) as (simulator, said):
            api_url = await _read_address(simulator, said, r"answers at (http\S+)")
            say(f"connecting {shops:,} shops")
            await _connect(url, api_url)
            with _process(["run"], Path(folder), environment=environment_of(url, api_url, _OPTIONS)) as (
                worker,
                _,
            ):
                connection = await asyncpg.connect(url)
                try:
                    return await _observe(
                        shops, seconds, connection, api_url, worker=worker, main=main, say=say
                    )
                finally:
                    await connection.close()


async def _observe(
    shops: int,
    seconds: float,
    connection: asyncpg.Connection,
    api_url: str,
    *,
    worker: psutil.Popen,
    main: psutil.Process,
    say: Callable[[str], None],
) -> Idle:
    say("first round")
    began = time.monotonic()
    while await connection.fetchval("SELECT count(*) FROM sync.cursors WHERE succeeded_at IS NULL"):
        _require(worker)
        await asyncio.sleep(1)
    first_round_s = time.monotonic() - began
    say(f"first round took {first_round_s:.0f} s")
    await asyncio.sleep(_SETTLE_S)
    say("measuring")
    async with aiohttp.ClientSession() as session:
        rows, transactions = await _count_rows(connection), await connection.fetchval(_TRANSACTIONS)
        before = await _count_requests(session, api_url)
        cpu = _cpu_s(worker), _postgres_cpu_s(main)
        started = now = time.monotonic()
        last, rates, lag_s = before[0], [], 0.0
        while now < started + seconds:
            _require(worker)
            await asyncio.sleep(_SAMPLE_S)
            polls, _ = await _count_requests(session, api_url)
            rates.append((polls - last) / (time.monotonic() - now))
            last, now = polls, time.monotonic()
            lag_s = max(lag_s, await connection.fetchval(_LAG) or 0.0)
        elapsed_s = now - started
        spent = _cpu_s(worker) - cpu[0], _postgres_cpu_s(main) - cpu[1]
        after = await _count_requests(session, api_url)
    return Idle(
        shops=shops,
        seconds=elapsed_s,
        polls=after[0] - before[0],
        requests=after[1] - before[1],
        worker_cores=spent[0] / elapsed_s,
        postgres_cores=spent[1] / elapsed_s,
        worker_peak_mib=_peak_mib(worker.pid),
        first_round_s=first_round_s,
        rows_added=await _count_rows(connection) - rows,
        transactions=await connection.fetchval(_TRANSACTIONS) - transactions,
        slowest_lag_s=lag_s,
        polls_per_second=rates,
    )


_LAG = "SELECT extract(epoch FROM now() - min(due_at))::float8 FROM sync.cursors WHERE stream = 'orders'"
_TRANSACTIONS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_ROWS = "SELECT (SELECT count(*) FROM sync.runs) + (SELECT count(*) FROM sync.slices)"


async def _count_rows(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval(_ROWS))


async def _count_requests(session: aiohttp.ClientSession, api_url: str) -> tuple[int, int]:
    """Polls of the orders, and requests of any kind, as the simulator counted them."""
    async with session.get(f"{api_url}/_sim/stats") as response:
        stats = msgspec.json.decode(await response.read())
    polls = sum(shop["by_path"].get(_POLLED, 0) for shop in stats["shops"].values())
    return polls, stats["requests"]


async def _connect(url: str, api_url: str) -> None:
    """Every seller of the simulator has consented."""
    settings = load_settings(
        overrides={"api_url": api_url, "auth_url": api_url, "app_key": _OPTIONS.app_key}
    ).model_copy(
        update={
            "app_secret": SecretStr(_OPTIONS.app_secret),
            "database_url": SecretStr(url),
            "encryption_key": SecretStr(ENCRYPTION_KEY),
            "requests_per_second": 1000.0,
        }
    )
    async with aiohttp.ClientSession() as session, session.get(f"{api_url}/_sim/truth") as response:
        sellers = msgspec.json.decode(await response.read())["sellers"]
    codes = iter([seller["codes"][0] for seller in sellers])
    async with open_app(settings) as app, asyncio.TaskGroup() as group:

        async def connect() -> None:
            for code in codes:
                await app.onboarding.connect(code, app="default")

        for _ in range(_CONNECTING):
            group.create_task(connect())


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server of its own, and its main process."""
    server = start_server(folder / "postgres", cleanup_mode="delete")
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        yield server.get_uri(), psutil.Process(pid)
    finally:
        server.cleanup()


@contextmanager
def _process(
    arguments: list[str], folder: Path, *, environment: dict[str, str] | None
) -> Iterator[tuple[psutil.Popen, Path]]:
    """A shopsync process and the file that it prints to; it has ended when the context ends."""
    out = folder / f"{arguments[0]}.out"
    with out.open("wb") as file, (folder / f"{arguments[0]}.err").open("wb") as errors:
        process = psutil.Popen(
            [sys.executable, "-m", "sync", *arguments], stdout=file, stderr=errors, env=environment
        )
        try:
            yield process, out
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                process.kill()
                process.wait()


async def _read_address(process: psutil.Popen, said: Path, pattern: str) -> str:
    while not (found := re.search(pattern, said.read_text())):
        _require(process)
        await asyncio.sleep(0.2)
    return found[1]


def _require(process: psutil.Popen) -> None:
    if process.poll() is not None:
        raise SystemExit(f"{' '.join(process.args)} ended with {process.returncode}")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _postgres_cpu_s(main: psutil.Process) -> float:
    """CPU seconds of all its processes, those that have ended included."""
    times = main.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in main.children():
        try:
            total += _cpu_s(child)
        except psutil.NoSuchProcess:
            continue
    return float(total)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def render(idle: Idle) -> Table:
    """The figures, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rates = idle.polls_per_second
    rows = {
        "quiet shops": f"{idle.shops:,}",
        "first round of all": f"{idle.first_round_s:,.0f} s",
        "measured": f"{idle.seconds:,.0f} s",
        "polls (requests)": f"{idle.polls:,} ({idle.requests:,})",
        f"polls/s, {_SAMPLE_S:g} s intervals": f"{min(rates):,.0f} to {max(rates):,.0f}",
        "slowest poll behind its time": f"{idle.slowest_lag_s:,.1f} s",
        "worker": f"{idle.worker_cores:.3f} cores, {idle.worker_ms:.2f} ms a poll",
        "Postgres": f"{idle.postgres_cores:.3f} cores, {idle.postgres_ms:.2f} ms a poll",
        "worker, peak memory": f"{idle.worker_peak_mib:,.0f} MiB",
        "polls per core-second of the worker": f"{idle.polls_per_core_second:,.0f}",
        "polls per core-second of both": f"{idle.polls_per_core_second_in_all:,.0f}",
        "transactions a poll": f"{idle.transactions / max(idle.polls, 1):.2f}",
        "rows of book-keeping added a poll": f"{idle.rows_added / max(idle.polls, 1):.4f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.idle")
    parser.add_argument("--shops", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=2)
    chosen = parser.parse_args()
    set_up_logging(level="warning", log_format="auto")
    console = Console(highlight=False, width=100)
    say = Console(stderr=True, highlight=False).print
    console.print(render(asyncio.run(measure(chosen.shops, chosen.minutes * 60, say=say))))


if __name__ == "__main__":
    main()
