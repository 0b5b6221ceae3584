"""How fast a backfill is, against the fastest that Postgres can take the same rows in.

    python -m tests.benchmarks [orders]

The floor is COPY of the finished rows into empty copies of the same tables with the same indexes.
Simulator, worker and Postgres share the machine and the first two also the process.
"""

from __future__ import annotations

import asyncio
import io
import platform
import resource
import subprocess
import sys
import tempfile
import time

import asyncpg
from rich.console import Console
from rich.table import Table

from sync.app import App, open_app
from sync.engine.fleet import new_report
from sync.engine.requests import SyncRequest
from sync.log import set_up_logging
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.support import simulator_settings

_TABLES = ("orders", "order_line_items")
Result = tuple[str, float, int, int]


async def main(orders: int) -> None:
    """Prints one table."""
    set_up_logging(level="warning", log_format="auto")
    world = build_world(
        seed=11,
        shops=2,
        orders_per_shop=orders // 2,
        products_per_shop=50,
        history_days=365,
        flash_sale_orders=orders // 20,
    )
    results: list[Result] = []
    for latency_s in (0.0, 0.3):
        # Without the limit, so that the path from page to table is what is measured.
        limit = 0 if latency_s == 0 else 50
        simulator = await serve(world, options=SimulatorOptions(latency_s=latency_s, limit_per_s=limit))
        with tempfile.TemporaryDirectory() as folder:
            settings = simulator_settings(simulator, data_dir=folder, requests_per_second=limit or 1000)
            async with open_app(settings) as app:
                for consent in simulator.simulation.accounts.consents.values():
                    await app.onboarding.connect(next(iter(consent.codes)), app="default")
                results.append(await _measure(f"backfill, {latency_s} s latency", app, simulator))
                await _forget_coverage(app.store.url)
                results.append(await _measure(f"again, unchanged, {latency_s} s latency", app, simulator))
                if latency_s == 0:
                    results.insert(0, await _measure_floor(app.store.url, orders))
        await simulator.close()
    _print(results)


async def _measure(name: str, app: App, simulator: RunningSimulator) -> Result:
    rows = await app.store.shops.list()
    requests = [SyncRequest(row.shop.shop_id, ("orders",), "bench") for row in rows]
    reports = [new_report(request) for request in requests]
    simulator.simulation.meter.reset()
    started = time.perf_counter()
    await app.fleet.sync_all(requests, reports=reports)
    elapsed_s = time.perf_counter() - started
    for report in reports:
        if report.outcome != "complete":
            raise SystemExit(f"the benchmark's sync is {report.outcome}: {report.problems}")
    done = sum(report.streams["orders"].done for report in reports)
    asked = sum(report.tally.requests for report in reports)
    return name, elapsed_s, done, asked


async def _forget_coverage(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}'")
    await connection.close()


async def _measure_floor(url: str, orders: int) -> Result:
    """COPY of the very rows that the backfill has stored, into empty tables like theirs."""
    connection = await asyncpg.connect(url)
    elapsed_s = 0.0
    for table in _TABLES:
        rows = io.BytesIO()
        await connection.copy_from_query(f"SELECT * FROM tiktok.{table}", output=rows)
        rows.seek(0)
        await connection.execute(f"CREATE TABLE public.floor_{table} (LIKE tiktok.{table} INCLUDING ALL)")
        started = time.perf_counter()
        await connection.copy_to_table(f"floor_{table}", source=rows)
        elapsed_s += time.perf_counter() - started
        await connection.execute(f"DROP TABLE public.floor_{table}")
    await connection.close()
    return "floor: COPY of the finished rows", elapsed_s, orders, 0


def _print(results: list[Result]) -> None:
    floor_s = results[0][1]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("what", "orders", "seconds", "orders/s", "time / floor", "requests", "requests / page"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, elapsed_s, orders, requests in results:
        per_page = f"{requests / -(-orders // 100):.2f}" if requests else ""
        table.add_row(
            name,
            f"{orders:,}",
            f"{elapsed_s:.2f}",
            f"{orders / elapsed_s:,.0f}",
            f"{elapsed_s / floor_s:.2f}",
            f"{requests:,}" if requests else "",
            per_page,
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(
        f"\ncommit {commit or 'unknown'}, Python {platform.python_version()}, {platform.machine()}, "
        f"peak memory of simulator and worker together {peak_mib:,.0f} MiB"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
