"""Rejects: they stand as long as something is missing from the tables, and no longer."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from sync.model import Record
from sync.store.leases import Lease
from sync.store.page_writer import Target
from sync.store.sink import Sink
from tests.integration.store_probe import (
    INVENTORY,
    ORDERS,
    PRODUCTS,
    WAREHOUSES,
    counts,
    order,
    page,
    product,
    stock,
)

Json = dict[str, Any]


async def rejects(connection: asyncpg.Connection) -> dict[str, bool]:
    """Whether the row is stored nevertheless, by the id of each record that was set aside."""
    return dict(await connection.fetch("SELECT record_id, stored FROM sync.rejects ORDER BY record_id"))


def paid(amount: str) -> Json:
    return {"payment": {"currency": "GBP", "total_amount": amount}}


# Each with one value that does not fit, and the column that is NULL therefore.
UNFIT = [
    (ORDERS, order("1", **paid("a lot")), "total_amount FROM tiktok.orders"),
    (
        ORDERS,
        order("1", line_items=[{"id": "1-1", "sale_price": "a lot"}]),
        "sale_price FROM tiktok.order_line_items",
    ),
    (PRODUCTS, product("1", has_draft="perhaps"), "has_draft FROM tiktok.products"),
    (
        PRODUCTS,
        product("1", skus=[{"id": "1-1", "price": {"sale_price": "a lot"}}]),
        "price FROM tiktok.skus",
    ),
    (INVENTORY, stock("1", available="many"), "available_quantity FROM tiktok.inventory"),
    (WAREHOUSES, {"id": "1", "is_default": "perhaps"}, "is_default FROM tiktok.warehouses"),
]


@pytest.mark.parametrize(("target", "record", "column"), UNFIT)
async def test_a_record_that_is_stored_in_part_stays_a_reject_when_it_comes_again(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, target: Target, record: Json, column: str
) -> None:
    await sink.write(target, page([record]), lease=lease)
    row = f"SELECT xmin, {column}"
    before = await connection.fetch(row)
    assert await rejects(connection) == {"1": True}
    for moment in (60, 120):
        assert counts(await sink.write(target, page([record], fetched=moment), lease=lease)) == {
            "unchanged": 1
        }
        assert await rejects(connection) == {"1": True}
    assert await connection.fetch(row) == before


@pytest.mark.parametrize(("target", "record", "column"), UNFIT[:4])
async def test_what_did_not_fit_is_not_taken_for_stored_when_another_value_changes(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, target: Target, record: Json, column: str
) -> None:
    await sink.write(target, page([record]), lease=lease)
    changed = record | {"update_time": record["update_time"] + 9, "status": "CHANGED"}
    assert counts(await sink.write(target, page([changed], fetched=60), lease=lease)) == {"updated": 1}
    assert await rejects(connection) == {"1": True}
    assert await connection.fetchval(f"SELECT {column}") is None
    assert await connection.fetchval(f"SELECT _digest FROM tiktok.{target.stream}") is None


@pytest.mark.parametrize(("target", "record", "column"), UNFIT)
async def test_a_column_that_takes_the_value_by_now_is_filled_and_the_reject_forgiven(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, target: Target, record: Json, column: str
) -> None:
    """As after an upgrade: the record itself never changed."""
    await sink.write(target, page([record]), lease=lease)
    for name, result in (("money", "7::numeric"), ("flag", "true"), ("whole", "7::bigint")):
        await connection.execute(
            f"CREATE OR REPLACE FUNCTION sync_strict.{name}(text) RETURNS {result.split('::')[-1]}"
            f" LANGUAGE sql IMMUTABLE AS 'SELECT {result}'".replace("RETURNS true", "RETURNS boolean")
        )
    await sink.write(target, page([record], fetched=60), lease=lease)
    assert await rejects(connection) == {}
    assert await connection.fetchval(f"SELECT {column}") is not None


async def test_an_older_version_does_not_forgive_what_is_stored_in_part(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(ORDERS, page([order("1", updated=5, **paid("a lot"))], fetched=5), lease=lease)
    assert counts(await sink.write(ORDERS, page([order("1")], fetched=60), lease=lease)) == {"stale": 1}
    assert await rejects(connection) == {"1": True}


DEEP = b'{"id":"1","update_time":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def test_an_answer_from_before_does_not_forgive_a_later_version(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(ORDERS, page([order("1")], fetched=1), lease=lease)
    await sink.write(ORDERS, page([Record(key="1", raw=DEEP)], fetched=20), lease=lease)
    for moment, standing in ((10, {"1": False}), (30, {})):
        await sink.write(ORDERS, page([order("1")], fetched=moment), lease=lease)
        assert await rejects(connection) == standing


LEVEL = {"warehouse_id": "w", "available_quantity": 5}
LISTED_ORDER, LISTED_PRODUCT, LISTED_STOCK = order("1"), product("1"), stock("1")
BROKEN = [
    (ORDERS, LISTED_ORDER, order("1", updated=5, line_items="oops"), "order_line_items"),
    (ORDERS, LISTED_ORDER, order("1", updated=5, line_items=[{"sale_price": "1.00"}]), "order_line_items"),
    (ORDERS, LISTED_ORDER, order("1", updated=5, line_items=["1-1"]), "order_line_items"),
    (PRODUCTS, LISTED_PRODUCT, product("1", updated=5, skus="oops"), "skus"),
    (PRODUCTS, LISTED_PRODUCT, product("1", updated=5, skus=[{"seller_sku": "x"}]), "skus"),
    (INVENTORY, LISTED_STOCK, {"product_id": "1", "skus": "oops"}, "inventory"),
    *(
        (INVENTORY, LISTED_STOCK, {"product_id": "1", "skus": [sku]}, "inventory")
        for sku in ("oops", None, [], [{"id": "1-1", "warehouse_inventory": [LEVEL]}])
    ),
    (INVENTORY, LISTED_STOCK, {"product_id": "1", "skus": [{"warehouse_inventory": [LEVEL]}]}, "inventory"),
    (
        INVENTORY,
        LISTED_STOCK,
        {"product_id": "1", "skus": [{"id": "1-1", "warehouse_inventory": "oops"}]},
        "inventory",
    ),
    (
        INVENTORY,
        LISTED_STOCK,
        {"product_id": "1", "skus": [{"id": "1-1", "warehouse_inventory": [{"available_quantity": 5}]}]},
        "inventory",
    ),
]


@pytest.mark.parametrize(("target", "good", "broken", "table"), BROKEN)
async def test_children_stay_when_their_list_cannot_be_read_and_the_record_is_a_reject(
    sink: Sink,
    lease: Lease,
    connection: asyncpg.Connection,
    target: Target,
    good: Json,
    broken: Json,
    table: str,
) -> None:
    await sink.write(target, page([good]), lease=lease)
    children = f"SELECT * FROM tiktok.{table}"
    before = await connection.fetch(children)
    assert len(before) == 1
    for moment in (60, 120):
        await sink.write(target, page([broken], fetched=moment), lease=lease)
        assert await rejects(connection) == {"1": True}
    assert await connection.fetch(children) == before


async def test_a_line_item_that_a_broken_list_kept_goes_with_the_next_good_one(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(ORDERS, page([order("1")]), lease=lease)
    await sink.write(ORDERS, page([order("1", updated=5, line_items="oops")], fetched=5), lease=lease)
    good = order("1", updated=9, line_items=[{"id": "other"}])
    await sink.write(ORDERS, page([good], fetched=9), lease=lease)
    assert await connection.fetchval("SELECT array_agg(line_item_id) FROM tiktok.order_line_items") == [
        "other"
    ]
    assert await rejects(connection) == {}


async def test_a_deleted_product_takes_its_skus_along_though_their_list_cannot_be_read(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(PRODUCTS, page([product("1")]), lease=lease)
    deleted = product("1", updated=5, status="DELETED", skus="oops")
    await sink.write(PRODUCTS, page([deleted], fetched=5), lease=lease)
    assert await connection.fetchval("SELECT _deleted_at IS NOT NULL FROM tiktok.skus")


async def test_stock_that_is_refused_is_forgiven_when_its_product_is_deleted(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(PRODUCTS, page([product("1"), product("2")]), lease=lease)
    for key in ("1", "2"):
        await sink.refuse(INVENTORY, key, lease=lease, reason="no")
    await sink.write(PRODUCTS, page([product("1", updated=5, status="DELETED")], fetched=5), lease=lease)
    assert await rejects(connection) == {"2": False}


async def test_stock_of_a_product_that_is_deleted_already_is_refused_without_a_reject(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(PRODUCTS, page([product("1", status="DELETED")]), lease=lease)
    await sink.refuse(INVENTORY, "1", lease=lease, reason="no")
    assert await rejects(connection) == {}
