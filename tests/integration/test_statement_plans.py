"""How the store statements reach the rows they need, planned while the tables are empty and kept for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from sync.simulator.world import build_world
from sync.store.pool import Database
from sync.store.queries import query

_ARGUMENTS = {
    "store_orders": (
        "text, bytea, timestamptz, text[], bytea[], text[], bigint",
        "'s', '[]', now(), '{}', '{}', '{}', 1",
    ),
    "store_products": (
        "text, bytea, timestamptz, text[], bytea[], text[], bigint",
        "'s', '[]', now(), '{}', '{}', '{}', 1",
    ),
    "store_inventory": (
        "text, bytea, timestamptz, text[], text[], bigint",
        "'s', '[]', now(), '{}', '{}', 1",
    ),
    "known_orders": ("text, text[], bytea[], uuid, bigint", "'s', '{}', '{}', gen_random_uuid(), 1"),
    "known_products": ("text, text[], bytea[], uuid, bigint", "'s', '{}', '{}', gen_random_uuid(), 1"),
}

_OTHERS = {"list_shops": ("text[]", "'{s1}'")}


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node that reads a table of many rows per shop, other than by the address of a row."""
    if plan.get("Relation Name", "leases") != "leases" and plan["Node Type"] not in (
        "ModifyTable",
        "Tid Scan",
    ):
        yield plan
    for child in plan.get("Plans", []):
        yield from scans(child)


async def plan_of(name: str, url: str) -> dict[str, Any]:
    """The plan that a new connection makes and keeps."""
    types, values = (_ARGUMENTS | _OTHERS)[name]
    async with Database(url, size=1) as database, database.connection() as connection:
        await connection.execute(f"PREPARE kept ({types}) AS {query(name)}")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept({values})"))
    found: dict[str, Any] = plan[0]["Plan"]
    return found


def assert_reads_single_rows(plan: dict[str, Any]) -> None:
    reads = list(scans(plan))
    assert reads
    for read in reads:
        assert "Index" in read["Node Type"], read
        assert "_id" in read["Index Cond"].replace("shop_id", ""), read


@pytest.mark.parametrize("name", _ARGUMENTS)
async def test_a_plan_made_for_empty_tables_reads_single_rows_and_never_a_whole_shop(
    name: str, database_url: str
) -> None:
    assert_reads_single_rows(await plan_of(name, database_url))


async def test_a_plan_made_at_any_size_reads_single_rows_and_never_a_whole_shop(database_url: str) -> None:
    world = build_world(seed=1, shops=1, orders_per_shop=1_200, products_per_shop=200, history_days=50)
    (shop,) = world.shops.values()
    orders, products = list(shop.orders.bodies()), [row.body for row in shop.product_rows.shown.values()]
    now = datetime.now(UTC)
    async with Database(database_url, size=1) as database:
        for start in range(0, 1_200, 100):
            for name, bodies in (("store_orders", orders), ("store_products", products)):
                records = bodies[start : start + 100]
                array = b"[" + b",".join(records) + b"]"
                await database.rows(name, shop.shop_id, array, now, [], [None] * len(records), [], 1)
            for name in _ARGUMENTS:
                assert_reads_single_rows(await plan_of(name, database_url))


@pytest.mark.parametrize("shops", [0, 300])
async def test_a_few_shops_are_found_without_reading_all(
    database_url: str, connection: asyncpg.Connection, shops: int
) -> None:
    await connection.execute(
        "INSERT INTO sync.shops (shop_id, credential_id, cipher)"
        f" SELECT 's' || i, i, 'c' FROM generate_series(1, {shops}) AS i; ANALYZE"
    )
    reads = list(scans(await plan_of("list_shops", database_url)))
    # The list of all is only made when all are asked for.
    probes = [r for r in reads if r.get("Relation Name") and r["Parent Relationship"] != "InitPlan"]
    assert len(probes) == 3
    for probe in probes:
        assert {"Index Cond", "Recheck Cond"} & probe.keys(), probe


async def test_the_long_statements_are_prepared_once_per_connection(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with Database(database_url, size=1) as database, database.connection() as pooled:
        for _ in range(3):
            await pooled.fetchrow(query("store_orders"), "s", b"[]", None, [], [], [], 1)
        kept = await pooled.fetch("SELECT generic_plans, custom_plans FROM pg_prepared_statements")
    orders = [tuple(row) for row in kept if row[0] + row[1] == 3]
    assert orders == [(3, 0)]
