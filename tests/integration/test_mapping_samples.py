"""Sample responses go into the tables, and every column holds what its COMMENT says it holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration.mapping import SHOP, Copy, Json, read_sample

pytest_plugins = ("tests.integration.mapping_fixtures",)

SOURCE = re.compile(r"API: (?P<path>[\w.]+)[^()]*(?:\(spelt so\))?\.?(?: \((?P<unit>unix \w+)\))?\.$")
BOOKKEEPING = {"_slice", "_raw", "_scrubbed", "_digest", "_deleted_at", "_synced_at", "_fetched_at"}

COMMENTS = """
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, NULL) AS type,
       col_description(c.oid, a.attnum) AS comment
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'tiktok'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
"""


def first(found: Any) -> Any:
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else found


def look_up(record: Json, path: str) -> Any:
    """What lies at the end of a dotted path; of arrays of objects on the way, in the first element."""
    found: Any = record
    for part in path.split("."):
        found = first(found)
        found = found.get(part) if isinstance(found, dict) else None
    return found


def convert(value: Any, type_: str, unit: str | None) -> Any:
    if value in (None, ""):
        return None
    if type_ == "timestamp with time zone":
        seconds = value / 1000 if unit == "unix milliseconds" else value
        return datetime.fromtimestamp(seconds, tz=UTC)
    readers: dict[str, Callable[[Any], Any]] = {
        "numeric": Decimal,
        "bigint": int,
        "jsonb": lambda v: v,
        "boolean": lambda v: v,
        "text": str,
    }
    return readers[type_](value)


async def check(copy: Copy, table: str, root: str, record: Json) -> int:
    """Compares the only row of the table with the record; returns how many columns hold a value."""
    row: asyncpg.Record = (await copy.rows(f"SELECT * FROM tiktok.{table}"))[0]
    filled = 0
    for column in await copy.rows(COMMENTS + " AND c.relname = $1", table):
        name = column["column"]
        if name == "shop_id" or name in BOOKKEEPING:
            continue
        if column["comment"].endswith((" API: id of the order.", " API: id of the product.")):
            expected = record["id"]
        else:
            match = SOURCE.search(column["comment"])
            assert match, f"{table}.{name} does not name its source: {column['comment']}"
            assert match["path"].startswith(f"{root}."), name
            expected = convert(
                look_up(record, match["path"].removeprefix(f"{root}.")), column["type"], match["unit"]
            )
        actual = json.loads(row[name]) if column["type"] == "jsonb" and row[name] else row[name]
        assert actual == expected, f"{table}.{name}"
        filled += actual is not None
    assert row["shop_id"] == SHOP
    return filled


@pytest.mark.parametrize(
    ("sample", "key", "tables"),
    [
        ("doc2026_orders_search_202309", "orders", {"orders": 100, "order_line_items": 44}),
        ("doc_orders_search_202309", "orders", {"orders": 90, "order_line_items": 25}),
        ("doc_order_detail_202507", "orders", {"orders": 85, "order_line_items": 25}),
        ("real_partial_order_fr_2026-02", "orders", {"orders": 20, "order_line_items": 18}),
        ("doc2026_products_search_202502", "products", {"products": 17, "skus": 15}),
        ("doc_products_search_202502", "products", {"products": 12, "skus": 14}),
        ("doc2026_inventory_search_202309", "inventory", {"inventory": 11}),
        ("doc_inventory_search_202309", "inventory", {"inventory": 11}),
        ("doc2026_warehouses_202309", "warehouses", {"warehouses": 26}),
        ("doc_warehouses_202309", "warehouses", {"warehouses": 26}),
    ],
)
async def test_a_sample_record_fills_the_columns_that_name_its_fields(
    copy: Copy, sample: str, key: str, tables: dict[str, int]
) -> None:
    records = read_sample(sample)[key]
    assert await copy.store(key, records) == (1, 0, 0, 0)
    assert await copy.store(key, records, fetched=1) == (0, 0, 0, 1)
    for table, at_least in tables.items():
        assert await check(copy, table, key, records[0]) >= at_least, table
    raw = json.loads((await copy.column(f"SELECT _raw FROM tiktok.{key}"))[0])
    assert raw == (records[0]["skus"][0] if key == "inventory" else records[0])


async def test_every_table_and_column_says_what_it_means(copy: Copy) -> None:
    silent = [f"{r['table']}.{r['column']}" for r in await copy.rows(COMMENTS) if not r["comment"]]
    assert silent == []
    tables = await copy.rows(
        "SELECT relname, obj_description(oid, 'pg_class') AS comment FROM pg_class"
        " WHERE relnamespace = 'tiktok'::regnamespace AND relkind = 'r'"
    )
    named = "shops orders order_line_items products skus inventory inventory_history warehouses"
    assert {t["relname"] for t in tables if t["comment"]} == set(named.split())


async def test_types_follow_the_kind_of_value(copy: Copy) -> None:
    columns = {(r["table"], r["column"]): r["type"] for r in await copy.rows(COMMENTS)}
    for (table, column), type_ in columns.items():
        if column.endswith("_id"):
            assert type_ == "text", (table, column)
        if column.endswith(("_time", "_at", "_from", "_to")):
            assert type_ == "timestamp with time zone", (table, column)
        if column.startswith("is_"):
            assert type_ == "boolean", (table, column)
        if type_ == "numeric" and column not in {"latitude", "longitude"}:
            assert (table, "currency") in columns, (table, column)
    assert "double precision" not in columns.values()


async def test_every_key_starts_with_the_shop(copy: Copy) -> None:
    keys = await copy.rows(
        "SELECT conrelid::regclass::text AS table, pg_get_constraintdef(oid) AS key FROM pg_constraint"
        " WHERE contype = 'p' AND connamespace = 'tiktok'::regnamespace"
    )
    assert {k["table"]: k["key"].removeprefix("PRIMARY KEY ") for k in keys} == {
        "tiktok.shops": "(shop_id)",
        "tiktok.orders": "(shop_id, order_id)",
        "tiktok.order_line_items": "(shop_id, line_item_id)",
        "tiktok.products": "(shop_id, product_id)",
        "tiktok.skus": "(shop_id, sku_id)",
        "tiktok.inventory": "(shop_id, sku_id, warehouse_id)",
        "tiktok.inventory_history": "(shop_id, sku_id, warehouse_id, valid_from)",
        "tiktok.warehouses": "(shop_id, warehouse_id)",
    }
