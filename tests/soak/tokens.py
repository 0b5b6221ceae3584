"""A backfill with access tokens that live five seconds: one refresh for each of them, and a true copy.

    python -m tests.soak.tokens [--minutes 20]

One request a second for a shop whose parallel walks all want one: most wait longer than a token lives.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

import asyncpg

from tests.acceptance.processes import Bench, Simulator, bench_environment, connect_sellers, simulate
from tests.oracle import compare
from tests.soak.server import own_database

_TOKEN_LIFE_S = 5
# A page has a hundred; some requests ask for counts, for products and for stock.
_ORDERS_PER_REQUEST = 46


async def backfill_through_expiries(
    folder: Path, database_url: str, *, seconds: float, per_second: int = 1
) -> list[str]:
    """One line for each thing that is wrong after a backfill of about that length."""
    orders = str(int(seconds * per_second * _ORDERS_PER_REQUEST))
    size = ("--shops", "1", "--orders", orders, "--products", "20", "--flash-sale", "0", "--days", "60")
    simulator_folder = folder / "simulator"
    simulator_folder.mkdir()
    async with simulate(simulator_folder, *size, "--mutations", "0", "--latency", "0.3") as shops:
        await shops.post("settings", access_token_life_s=_TOKEN_LIFE_S)
        await connect_sellers(database_url, shops.url)
        bench = Bench(folder, bench_environment(database_url, shops.url))
        connection = await asyncpg.connect(database_url)
        try:
            started = time.monotonic()
            finished = await (await bench.start("backfill", REQUESTS_PER_SECOND=str(per_second))).finish(
                within_s=seconds * 3 + 120
            )
            elapsed_s = time.monotonic() - started
            if finished.code:
                return [f"the backfill ended with {finished.code}: {finished.err[-2000:]}"]
            problems = await _wrong_refreshes(connection, shops, elapsed_s)
            return problems + await compare(connection, shops.url, await shops.shop_ids())
        finally:
            await connection.close()
            await bench.close()


async def _wrong_refreshes(connection: asyncpg.Connection, shops: Simulator, elapsed_s: float) -> list[str]:
    stats = await shops.get("stats")
    refreshes = stats["refreshes"]
    print(f"{refreshes} refreshes in {elapsed_s:.1f} s; refusals by code: {stats['codes']}")
    generation = await connection.fetchval("SELECT generation FROM sync.credentials")
    # Expiries are whole seconds, so half of a life is 2 to 2.5 s; one more or less at the ends.
    fewest = elapsed_s / _TOKEN_LIFE_S - 2
    most = elapsed_s / ((_TOKEN_LIFE_S - 1) / 2) + 1
    problems = []
    if not fewest <= refreshes <= most:
        problems.append(f"{refreshes} refreshes in {elapsed_s:.1f} s")
    if generation - 1 != refreshes:
        problems.append(f"generation {generation} after {refreshes} refreshes")
    if "36004005" in stats["codes"]:
        problems.append("a dead refresh token was used")
    return problems


def main() -> int:
    """The exit code; prints what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    seconds = parser.parse_args().minutes * 60
    with own_database() as (folder, url):
        problems = asyncio.run(backfill_through_expiries(folder, url, seconds=seconds))
    print("\n".join(problems) or "exactly one refresh for each token, and the copy is true")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
