"""A shop of a million orders is compared with TikTok Shop's counts: what that costs, and what it finds.

    python -m tests.soak.proof [--orders 1000000] [--seed N]

The orders are as small as the tables allow, and stored as if they had been read. Three are deleted by
hand, found, repaired and proven; then the simulator hides one in a hundred thousand, then it counts wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from sync.app import App
from sync.engine.requests import VERIFY, Proof, SyncRequest, Verify
from sync.log import set_up_logging
from sync.simulator.rows import Row, RowIndex
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world
from tests.soak.server import own_database
from tests.support import connected_app, make_settings

_HISTORY_S = 3 * 365 * 86_400
_HIDDEN_IN = 100_000
_MOST_REQUESTS = 20
_DELETED = 3
_COVERED = """
UPDATE sync.cursors
   SET covered = tstzmultirange(tstzrange($2, $3)), settled = tstzmultirange(tstzrange($2, $3)),
       synced_until = $3, succeeded_at = now()
 WHERE shop_id = $1 AND stream = 'orders'
"""


def _make_rows(orders: int, *, now_s: int, rng: random.Random) -> list[Row]:
    """Orders over three years, a third of them in sales of an hour."""
    sales = [now_s - rng.randrange(_HISTORY_S) for _ in range(20)]
    rows = []
    for number in range(orders):
        is_sale = rng.random() < 1 / 3
        created = rng.choice(sales) + rng.randrange(3600) if is_sale else now_s - rng.randrange(_HISTORY_S)
        created = min(created, now_s - 3600)
        order_id = 576_460_000_000_000_000 + number
        body = b'{"id":"%d","status":"COMPLETED","create_time":%d,"update_time":%d,"line_items":[]}' % (
            order_id, created, created,
        )  # fmt: skip
        rows.append(Row(order_id, body, "COMPLETED", created, created))
    return rows


async def _store(connection: asyncpg.Connection, shop_id: str, rows: Sequence[Row]) -> None:
    moments = [datetime.fromtimestamp(row.create_time, UTC) for row in rows]
    fetched = datetime.now(UTC)
    await connection.copy_records_to_table(
        "orders",
        schema_name="tiktok",
        columns=["shop_id", "order_id", "status", "create_time", "update_time", "_fetched_at"],
        records=[
            (shop_id, str(row.id), row.status, moment, moment, fetched)
            for row, moment in zip(rows, moments, strict=True)
        ],
    )
    until = datetime.fromtimestamp(time.time() // 1 - 60, UTC)
    await connection.execute(_COVERED, shop_id, datetime(2020, 1, 1, tzinfo=UTC), until)
    await connection.execute("ANALYZE tiktok.orders")


async def _compare(app: App, shop_id: str, what: str, *, repairs: bool = False) -> Proof:
    started = time.monotonic()
    wish = Verify(("orders",), repairs=repairs)
    report = await app.fleet.sync(SyncRequest(shop_id, (), reason=VERIFY, verify=wish))
    (proof,) = report.proofs
    print(
        f"{what}: {proof.verdict}, {proof.api_rows:,} counted, {proof.stored_rows:,} stored, "
        f"{len(proof.findings)} findings, {proof.requests} requests, {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return proof


async def _play(database_url: str, simulator: RunningSimulator, *, orders: int, seed: int) -> list[str]:
    """One line for each thing that was not as it should be."""
    rng = random.Random(seed)
    (shop,) = simulator.world.shops.values()
    rows = _make_rows(orders, now_s=int(time.time()), rng=rng)
    shop.orders = RowIndex(rows)
    problems: list[str] = []

    def check(holds: bool, what: str) -> None:
        if not holds:
            problems.append(what)

    settings = make_settings(database_url, simulator, requests_per_second=50)
    connection = await asyncpg.connect(database_url)
    try:
        async with connected_app(settings, simulator) as app:
            await _store(connection, shop.shop_id, rows)
            proof = await _compare(app, shop.shop_id, "complete")
            check(proof.verdict == "complete" and proof.api_rows == orders, "a complete copy was not proven")
            check(proof.requests <= _MOST_REQUESTS, f"{proof.requests} requests for a complete copy")
            lost = sorted(str(row.id) for row in rng.sample(rows, _DELETED))
            await connection.execute("DELETE FROM tiktok.orders WHERE order_id = ANY ($1)", lost)
            proof = await _compare(app, shop.shop_id, "three deleted by hand")
            named = sorted(key for finding in proof.findings for key in finding.keys)
            check(named == lost, f"deleted were {lost}, found were {named}")
            proof = await _compare(app, shop.shop_id, "repaired", repairs=True)
            check(proof.verdict == "repaired", f"after the repair: {proof.verdict}")
            proof = await _compare(app, shop.shop_id, "proven")
            check(proof.verdict == "complete" and not proof.findings, f"in the end: {proof.verdict}")
            hidden = rng.sample(rows, max(1, orders // _HIDDEN_IN))
            for row in hidden:
                simulator.simulation.faults.add({"fault": "hidden_row", "id": str(row.id)})
            ids = [str(row.id) for row in hidden]
            await connection.execute("DELETE FROM tiktok.orders WHERE order_id = ANY ($1)", ids)
            proof = await _compare(app, shop.shop_id, f"{len(hidden)} hidden")
            seconds = sorted({row.create_time for row in hidden})
            told = sorted({int(f.window.since.timestamp()) for f in proof.findings if f.window})
            check({f.kind for f in proof.findings} == {"hidden"}, f"hidden rows were called {proof.findings}")
            check(told == seconds, f"hidden in the seconds {seconds}, told of {told}")
            simulator.simulation.faults.remove()
            simulator.simulation.faults.add({"fault": "total_count_wrong", "delta": 7})
            proof = await _compare(app, shop.shop_id, "counts that lie")
            check(proof.verdict in ("contradictory", "incomplete"), f"counts that lie: {proof.verdict}")
    finally:
        await connection.close()
    return problems


async def _run(database_url: str, *, orders: int, seed: int) -> list[str]:
    simulator = await serve(
        build_world(seed=seed, shops=1, orders_per_shop=1, products_per_shop=1, flash_sale_orders=0)
    )
    try:
        return await _play(database_url, simulator, orders=orders, seed=seed)
    finally:
        await simulator.close()


def main() -> int:
    """The exit code; prints what was found, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the orders")
    arguments = parser.parse_args()
    set_up_logging(level="error", log_format="json")
    print(f"seed {arguments.seed}", flush=True)
    with own_database() as (_, url):
        problems = asyncio.run(_run(url, orders=arguments.orders, seed=arguments.seed))
    print("\n".join(problems) or "all as it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
