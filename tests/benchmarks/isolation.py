"""What failing shops cost their neighbours: the same reading of healthy shops without and with them.

    python -m tests.benchmarks.isolation [--quick] [--write]

One worker reads as many healthy shops as there are failing ones. Each failing shop has its own fault
from the first request on, and none of them ever ends; the healthy ones are timed until all of their
orders are read. Both readings follow each other in pairs, so that a slow minute of the machine meets both.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sync.log import set_up_logging
from tests.acceptance.processes import OPTIONS, SHOPSYNC
from tests.benchmarks.postgres import open_server
from tests.benchmarks.processes import FailedError, Simulator, end_in_order, stolen_s
from tests.benchmarks.product import Bench
from tests.benchmarks.report import Report, write
from tests.support import environment_of

_FAULTS: tuple[dict[str, object], ...] = (
    {"fault": "hang"},
    {"fault": "rate_limited", "retry_after": "2"},
    {"fault": "internal_error", "http": 500},
    {"fault": "unavailable_html"},
    {"fault": "truncated_body"},
    {"fault": "reset_mid_body"},
)
_LATENCY_S, _JITTER_S = 0.3, 0.15
# What six healthy shops can be read at together without taking a core.
_PER_SECOND = "8"
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 900.0
_FORGET = "UPDATE sync.cursors SET covered = '{}', settled = '{}', succeeded_at = NULL"
_FORGET_FAILURES = "UPDATE sync.shops SET state = 'active', state_reason = NULL WHERE state = 'inactive'"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    orders: int = 16_000
    pairs: int = 7


QUICK = Sizes(orders=1_000, pairs=1)


def main(arguments: argparse.Namespace) -> int:
    """The exit code; prints the figures, and writes them where asked to."""
    set_up_logging(level="warning", log_format="auto")
    end_in_order()
    sizes, report = QUICK if arguments.quick else Sizes(), Report()
    began, stolen = time.monotonic(), stolen_s()
    with tempfile.TemporaryDirectory(prefix="shopsync-isolation-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres may run as a user of its own.
        with open_server(folder) as server:
            try:
                _measure(Bench(folder, server), sizes, report)
            except FailedError as error:
                print(f"nothing is reported: {error}", file=sys.stderr)
                return 1
            seconds = time.monotonic() - began
            share = (stolen_s() - stolen) / (seconds * (os.cpu_count() or 1))
            notes = [f"Took {seconds / 60:.0f} minutes; stolen CPU meanwhile: {share:.1%}."]
            text = report.render(notes, server_version=server.version)
    print(f"\n{text}")
    if arguments.write:
        write("isolation", text)
    return 0


def _measure(bench: Bench, sizes: Sizes, report: Report) -> None:
    count = 2 * len(_FAULTS)
    with (
        Simulator(bench.folder, shops=count, orders=sizes.orders) as simulator,
        bench.server.database("isolation") as url,
    ):
        bench.connect(url, simulator)
        simulator.behave(latency_s=_LATENCY_S, jitter_s=_JITTER_S, limit_per_s=50)
        # The first time everything is stored, which costs more than to read it again.
        _read(bench, url, simulator, with_failing=False)
        alone, beside = list[float](), list[float]()
        for number in range(sizes.pairs):
            # The order changes, so that neither always finds what the other has left warm.
            for with_failing in (False, True) if number % 2 else (True, False):
                seconds = _read(bench, url, simulator, with_failing=with_failing)
                (beside if with_failing else alone).append(seconds)
            report.say(f"healthy shops alone {alone[-1]:.2f} s, beside failing ones {beside[-1]:.2f} s")
    orders = len(_FAULTS) * sizes.orders
    for name, taken in (("alone", alone), ("beside as many failing ones", beside)):
        rate = orders / statistics.median(taken)
        report.add_figure(f"{len(_FAULTS)} healthy shops {name}, orders/s", f"{rate:,.0f}")
    slower = statistics.median(b / a for a, b in zip(alone, beside, strict=True)) - 1
    report.add_figure(f"their time beside, median of {sizes.pairs} pairs", f"{slower:+.1%}", "≤ 2 %")


def _read(bench: Bench, url: str, simulator: Simulator, *, with_failing: bool) -> float:
    """Seconds from the worker's start until every healthy shop was read."""
    shops = [shop["shop_id"] for shop in simulator.shops]
    healthy, failing = shops[: len(_FAULTS)], shops[len(_FAULTS) :]
    bench.server.execute(url, _FORGET)
    bench.server.execute(url, _FORGET_FAILURES)
    bench.server.settle(url)
    names = ", ".join(f"'{shop_id}'" for shop_id in healthy)
    is_over = f"SELECT bool_and(succeeded_at IS NOT NULL) FROM sync.cursors WHERE shop_id IN ({names})"
    is_over += " AND stream = 'orders'"
    with (
        _failing(simulator, failing),
        _worker(bench, url, simulator, shops if with_failing else healthy) as (
            process,
            started,
        ),
    ):
        while not bench.server.fetch(url, is_over)[0][0]:
            seconds = time.perf_counter() - started
            if seconds > _PATIENCE_S or (process.poll() not in (None, 0)):
                raise FailedError(
                    f"the healthy shops were not read: {(bench.folder / 'err').read_text()[-2000:]}"
                )
            time.sleep(_LOOK_EVERY_S)
        return time.perf_counter() - started


@contextmanager
def _failing(simulator: Simulator, shops: list[str]) -> Iterator[None]:
    """Every request of these shops fails, each in its own way."""
    for shop_id, fault in zip(shops, _FAULTS, strict=True):
        simulator.ask("faults", shop_id=shop_id, **fault)
    try:
        yield
    finally:
        simulator.clear_faults()


@contextmanager
def _worker(
    bench: Bench, url: str, simulator: Simulator, shops: list[str]
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A backfill of these shops that is under way, and when it was started."""
    environment = environment_of(url, simulator.url, OPTIONS) | {"SHOPSYNC_REQUESTS_PER_SECOND": _PER_SECOND}
    chosen = [part for shop_id in shops for part in ("--shop", shop_id)]
    with (bench.folder / "out").open("wb") as out, (bench.folder / "err").open("wb") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [SHOPSYNC, "backfill", "--stream", "orders", *chosen],
            stdout=out, stderr=err, env=environment, cwd=bench.folder,
        )  # fmt: skip
        try:
            yield process, started
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything work?")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/performance.md")
    sys.exit(main(parser.parse_args()))
