"""How evenly the pacers of many shops let requests go when all have work.

    python -m tests.benchmarks.pacers

Without HTTP: 200 shops at 49 requests per second are more than one process can send.
"""

from __future__ import annotations

import asyncio
import time

from rich.console import Console
from rich.table import Table

from sync.tiktok.limiter import Pacer

_SECONDS = 10.0
_WORKERS = 20


async def measure(shops: int) -> tuple[float, float, int, float]:
    """The rates of the slowest and the fastest shop, the busiest second of any, and the cores used."""
    moments: list[list[float]] = [[] for _ in range(shops)]
    until = time.monotonic() + _SECONDS

    async def work(pacer: Pacer, shop: list[float]) -> None:
        while time.monotonic() < until:
            await pacer.acquire()
            shop.append(time.monotonic())

    cpu = time.process_time()
    async with asyncio.TaskGroup() as group:
        for shop in moments:
            pacer = Pacer(50)
            for _ in range(_WORKERS):
                group.create_task(work(pacer, shop))
    cpu = time.process_time() - cpu
    rates = [(len(shop) - 1) / (shop[-1] - shop[0]) for shop in moments]
    return min(rates), max(rates), max(map(_busiest_second, moments)), cpu / _SECONDS


def _busiest_second(moments: list[float]) -> int:
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    """Prints one table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("shops", "slowest /s", "fastest /s", "busiest second", "cores"):
        table.add_column(heading, justify="right")
    for shops in (1, 20, 200):
        slowest, fastest, busiest, cores = asyncio.run(measure(shops))
        table.add_row(str(shops), f"{slowest:.2f}", f"{fastest:.2f}", str(busiest), f"{cores:.2f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
