"""How soon a notification's change is in Postgres, and what forged ones cost.

    python -m tests.benchmarks.webhooks [--quick] [--write]

Simulator, daemon, Postgres and forger are processes of their own; answers take 0.15 to 0.45 s, and the
shop is read at its limit of 50 requests per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
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

import aiohttp
import asyncpg
import psutil

from sync.log import set_up_logging
from sync.tiktok.signing import sign_notification
from tests.acceptance.processes import OPTIONS, SHOPSYNC
from tests.benchmarks.postgres import open_server
from tests.benchmarks.processes import ROOT, FailedError, Simulator, end_in_order, stolen_s
from tests.benchmarks.product import Bench
from tests.benchmarks.report import Report, quantile, write
from tests.support import environment_of

_PER_SECOND = 50
_FORGED_PER_SECOND = 2_000
_LATENCY_S, _JITTER_S = 0.3, 0.15
_LOOK_EVERY_S = 0.01
_PATIENCE_S = 60.0
_FORGET = "UPDATE sync.cursors SET covered = '{}', settled = '{}', due_at = now() WHERE stream = 'orders'"
_PAID = "SELECT order_id FROM tiktok.orders WHERE shop_id = $1 AND order_id = ANY ($2) AND status <> 'UNPAID'"
_LAST_ROUND = (
    "SELECT extract(epoch FROM attempted_at)::float8 AS began,"
    " extract(epoch FROM succeeded_at)::float8 AS ended"
    " FROM sync.cursors WHERE shop_id = $1 AND stream = 'orders'"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    orders: int = 150_000
    told: int = 2_500
    flood_orders: int = 40_000
    pairs: int = 7


QUICK = Sizes(orders=15_000, told=200, flood_orders=5_000, pairs=1)


def main(arguments: argparse.Namespace) -> int:
    """The exit code; prints the figures, and writes them where asked to."""
    set_up_logging(level="warning", log_format="auto")
    end_in_order()
    sizes, report = QUICK if arguments.quick else Sizes(), Report()
    began, stolen = time.monotonic(), stolen_s()
    with tempfile.TemporaryDirectory(prefix="shopsync-webhooks-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres may run as a user of its own.
        with open_server(folder) as server:
            bench = Bench(folder, server)
            try:
                _measure_latency(bench, sizes, report)
                _measure_flood(bench, sizes, report)
            except FailedError as error:
                print(f"nothing is reported: {error}", file=sys.stderr)
                return 1
            seconds = time.monotonic() - began
            share = (stolen_s() - stolen) / (seconds * (os.cpu_count() or 1))
            notes = [f"Took {seconds / 60:.0f} minutes; stolen CPU meanwhile: {share:.1%}."]
            text = report.render(notes, server_version=server.version)
    print(f"\n{text}")
    if arguments.write:
        write("webhooks", text)
    return 0


def _measure_latency(bench: Bench, sizes: Sizes, report: Report) -> None:
    with _daemon(bench, sizes.orders) as (url, simulator, page):
        # The first round reads the whole history: that is the long backfill.
        busy = asyncio.run(_tell(url, simulator, page, count=sizes.told, while_reading=True))
        asyncio.run(_wait_for_round(url, simulator, after=0.0))
        idle = asyncio.run(_tell(url, simulator, page, count=sizes.told, while_reading=False))
    for name, taken in (("while its history is read", busy), ("idle otherwise", idle)):
        for share, goal in ((0.5, ""), (0.99, "< 1 s")):
            what = f"notification to row, {_PER_SECOND}/s, shop {name}, p{share * 100:.0f}"
            report.add_figure(what, f"{quantile(taken, share):.3f} s", goal)
        report.add_figure(f"notifications told and found, shop {name}", f"{len(taken):,} of {sizes.told:,}")


async def _tell(url: str, simulator: Simulator, page: str, *, count: int, while_reading: bool) -> list[float]:
    """Seconds from each notification's sending to its order's being paid in Postgres."""
    shop_id = simulator.shops[0]["shop_id"]
    sent: dict[str, float] = {}
    taken: list[float] = []
    connection = await asyncpg.connect(url)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

        async def pay() -> None:
            body = {"kind": "pay_order", "shop_id": shop_id}
            async with session.post(f"{simulator.url}/_sim/mutate", json=body) as answer:
                (order_id,) = (await answer.json())["ids"]
            sent[order_id] = time.monotonic()
            told = json.dumps(
                {"type": 1, "tts_notification_id": f"{shop_id}-{order_id}", "shop_id": shop_id,
                 "timestamp": int(time.time()), "data": {"order_id": order_id}}
            ).encode()  # fmt: skip
            signature = sign_notification(told, app_key=OPTIONS.app_key, app_secret=OPTIONS.app_secret)
            headers = {"Authorization": signature}
            async with session.post(f"{page}/webhooks/tiktok", data=told, headers=headers) as answer:
                if answer.status != 200:
                    raise FailedError(f"a notification was answered with {answer.status}")

        async def tell() -> None:
            began = time.monotonic()
            for number in range(count):
                await asyncio.sleep(began + number / _PER_SECOND - time.monotonic())
                group.create_task(pay())

        telling = group.create_task(tell())
        last_news = time.monotonic()
        while not telling.done() or len(taken) < count:
            await asyncio.sleep(_LOOK_EVERY_S)
            found = await connection.fetch(_PAID, shop_id, list(sent))
            for row in found:
                taken.append(time.monotonic() - sent.pop(row["order_id"]))
                last_news = time.monotonic()
            if time.monotonic() - last_news > _PATIENCE_S:
                raise FailedError(f"{count - len(taken)} of {count} notifications led to nothing")
    row = await connection.fetchrow(_LAST_ROUND, shop_id)
    await connection.close()
    if while_reading and row["ended"] is not None:
        raise FailedError("the history was read before all was told: give the shop more orders")
    return taken


def _measure_flood(bench: Bench, sizes: Sizes, report: Report) -> None:
    quiet, flooded, refusals, ratios = list[float](), list[float](), list[dict[str, float]](), list[float]()
    with _daemon(bench, sizes.flood_orders) as (url, simulator, page):
        asyncio.run(_wait_for_round(url, simulator, after=0.0))
        for _ in range(sizes.pairs):
            quiet.append(asyncio.run(_read_again(bench, url, simulator)))
            with _forger(page, seconds=quiet[-1] + 5) as forger:
                flooded.append(asyncio.run(_read_again(bench, url, simulator)))
                said, _ = forger.communicate(timeout=_PATIENCE_S + quiet[-1])
            refusals.append(json.loads(said))
            ratios.append(flooded[-1] / quiet[-1])
            report.say(f"backfill {quiet[-1]:.2f} s, with forgeries {flooded[-1]:.2f} s; {said.strip()}")
    for one in refusals:
        if set(one["statuses"]) != {"401"}:  # type: ignore[call-overload]
            raise FailedError(f"not every forgery was refused: {one}")
    report.add_figure(
        "forged notifications/s", f"{statistics.median(r['per_second'] for r in refusals):,.0f}"
    )
    report.add_figure(
        "refusal of a forgery, p99", f"{statistics.median(r['p99_ms'] for r in refusals):.1f} ms", "< 50 ms"
    )
    slower = statistics.median(ratios) - 1
    report.add_figure(
        f"a backfill's time with them, median of {sizes.pairs} pairs", f"{slower:+.1%}", "≤ 5 %"
    )


async def _read_again(bench: Bench, url: str, simulator: Simulator) -> float:
    """Seconds that one more reading of all orders took."""
    now = time.time()
    connection = await asyncpg.connect(url)
    await connection.execute(_FORGET)
    await connection.close()
    return await _wait_for_round(url, simulator, after=now)


async def _wait_for_round(url: str, simulator: Simulator, *, after: float) -> float:
    """Seconds that the first round of the orders took that ended after that moment and was begun since."""
    connection = await asyncpg.connect(url)
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        row = await connection.fetchrow(_LAST_ROUND, simulator.shops[0]["shop_id"])
        if (
            row is not None
            and row["ended"] is not None
            and row["began"] > after
            and row["ended"] > row["began"]
        ):
            await connection.close()
            return float(row["ended"] - row["began"])
        await asyncio.sleep(0.05)
    raise FailedError("the orders were not read within half an hour")


@contextmanager
def _daemon(bench: Bench, orders: int) -> Iterator[tuple[str, Simulator, str]]:
    """A daemon that begins to read a shop's history: its database, its simulator, its address."""
    with (
        Simulator(bench.folder, shops=1, orders=orders) as simulator,
        bench.server.database("webhooks") as url,
    ):
        bench.connect(url, simulator)
        simulator.behave(latency_s=_LATENCY_S, jitter_s=_JITTER_S, limit_per_s=50)
        bench.server.settle(url)
        environment = environment_of(url, simulator.url, OPTIONS)
        out, err = bench.folder / "daemon.out", bench.folder / "daemon.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = psutil.Popen(
                [SHOPSYNC, "run"], stdout=to_out, stderr=to_err, env=environment, cwd=bench.folder
            )
        try:
            while not (found := re.search(r"status page: (\S+)", out.read_text())):
                if process.poll() is not None:
                    raise FailedError(err.read_text()[-2000:])
                time.sleep(0.05)
            yield url, simulator, found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def _forger(page: str, *, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.benchmarks.forger", page]
    command += ["--rate", str(_FORGED_PER_SECOND), "--seconds", f"{seconds:.0f}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything work?")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/performance.md")
    sys.exit(main(parser.parse_args()))
