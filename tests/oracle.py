"""The independent judge: what the tables hold against what the simulator knows to be true."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import aiohttp
import asyncpg

Rows = dict[tuple[str, ...], Any]


async def fetch_truth(url: str, shop_id: str, stream: str) -> list[dict[str, Any]]:
    """Every record of a shop's stream as the simulator would send it now."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/_sim/truth", params={"shop_id": shop_id, "stream": stream}) as response,
    ):
        response.raise_for_status()
        return list((await response.json(content_type=None))["records"])


async def compare(connection: asyncpg.Connection, url: str, shop_ids: Iterable[str]) -> list[str]:
    """One line for every row that is missing, extra or different; empty when the copy is true."""
    differences: list[str] = []
    for shop_id in shop_ids:
        orders = await fetch_truth(url, shop_id, "orders")
        products = await fetch_truth(url, shop_id, "products")
        inventory = await fetch_truth(url, shop_id, "inventory")
        warehouses = await fetch_truth(url, shop_id, "warehouses")
        differences += await _compare_orders(connection, shop_id, orders)
        differences += await _compare_products(connection, shop_id, products)
        differences += await _compare_inventory(connection, shop_id, inventory)
        differences += await _compare_raw(connection, shop_id, "warehouses", "warehouse_id", warehouses)
    return differences


def _diff(what: str, shop_id: str, stored: Mapping[Any, Any], true: Mapping[Any, Any]) -> list[str]:
    lines = [f"{what} {shop_id} {key}: missing" for key in true.keys() - stored.keys()]
    lines += [f"{what} {shop_id} {key}: extra" for key in stored.keys() - true.keys()]
    lines += [
        f"{what} {shop_id} {key}: stored {stored[key]!r:.300}, true {true[key]!r:.300}"
        for key in true.keys() & stored.keys()
        if stored[key] != true[key]
    ]
    return lines


async def _raw(connection: asyncpg.Connection, shop_id: str, table: str, key: str) -> dict[str, Any]:
    rows = await connection.fetch(
        f"SELECT {key} AS key, _raw::text AS raw FROM tiktok.{table} WHERE shop_id = $1", shop_id
    )
    return {row["key"]: json.loads(row["raw"]) for row in rows}


async def _compare_raw(
    connection: asyncpg.Connection, shop_id: str, table: str, key: str, true: list[dict[str, Any]]
) -> list[str]:
    stored = await _raw(connection, shop_id, table, key)
    return _diff(table, shop_id, stored, {record["id"]: record for record in true})


async def _compare_orders(
    connection: asyncpg.Connection, shop_id: str, true: list[dict[str, Any]]
) -> list[str]:
    lines = await _compare_raw(connection, shop_id, "orders", "order_id", true)
    columns = await connection.fetch(
        "SELECT order_id, status, extract(epoch FROM update_time)::bigint AS update_time, total_amount,"
        "       currency FROM tiktok.orders WHERE shop_id = $1",
        shop_id,
    )
    lines += _diff(
        "order columns",
        shop_id,
        {r["order_id"]: (r["status"], r["update_time"], r["total_amount"], r["currency"]) for r in columns},
        {
            o["id"]: (
                o["status"],
                o["update_time"],
                Decimal(o["payment"]["total_amount"]),
                o["payment"]["currency"],
            )
            for o in true
        },
    )
    items = await connection.fetch(
        "SELECT line_item_id, order_id, sku_id, product_id, display_status, sale_price"
        "  FROM tiktok.order_line_items WHERE shop_id = $1",
        shop_id,
    )
    lines += _diff(
        "order_line_items",
        shop_id,
        {r["line_item_id"]: tuple(r)[1:] for r in items},
        {
            i["id"]: (o["id"], i["sku_id"], i["product_id"], i["display_status"], Decimal(i["sale_price"]))
            for o in true
            for i in o["line_items"]
        },
    )
    return lines


async def _compare_products(
    connection: asyncpg.Connection, shop_id: str, true: list[dict[str, Any]]
) -> list[str]:
    stored = await _raw(connection, shop_id, "products", "product_id")
    lines = _diff(
        "products",
        shop_id,
        {key: _without_stock(record) for key, record in stored.items()},
        {record["id"]: _without_stock(record) for record in true},
    )
    deleted = await connection.fetch(
        "SELECT product_id, title, status, _deleted_at IS NOT NULL AS deleted"
        "  FROM tiktok.products WHERE shop_id = $1",
        shop_id,
    )
    lines += _diff(
        "product columns",
        shop_id,
        {r["product_id"]: (r["title"], r["status"], r["deleted"]) for r in deleted},
        {p["id"]: (p["title"], p["status"], p["status"] == "DELETED") for p in true},
    )
    skus = await connection.fetch(
        "SELECT sku_id, product_id, price FROM tiktok.skus WHERE shop_id = $1 AND _deleted_at IS NULL",
        shop_id,
    )
    lines += _diff(
        "skus",
        shop_id,
        {r["sku_id"]: (r["product_id"], r["price"]) for r in skus},
        {
            s["id"]: (p["id"], Decimal(s["price"]["sale_price"]))
            for p in true
            if p["status"] != "DELETED"
            for s in p["skus"]
        },
    )
    return lines


def _without_stock(product: dict[str, Any]) -> dict[str, Any]:
    """The product as such. Its stock moves without its update time, and is judged in its own table."""
    skus = [{k: v for k, v in sku.items() if k != "inventory"} for sku in product.get("skus", [])]
    return {**product, "skus": skus}


async def _compare_inventory(
    connection: asyncpg.Connection, shop_id: str, true: list[dict[str, Any]]
) -> list[str]:
    quantities = {
        (sku["id"], stock["warehouse_id"]): (stock["available_quantity"], stock["committed_quantity"])
        for product in true
        for sku in product["skus"]
        for stock in sku["warehouse_inventory"]
    }
    lines = []
    for what, source in (
        ("inventory", "tiktok.inventory WHERE _deleted_at IS NULL"),
        ("inventory_history", "tiktok.inventory_history WHERE valid_to IS NULL"),
    ):
        rows = await connection.fetch(
            "SELECT sku_id, warehouse_id, available_quantity, committed_quantity"
            f"  FROM {source} AND shop_id = $1",
            shop_id,
        )
        stored = {(r[0], r[1]): (r[2], r[3]) for r in rows}
        lines += _diff(what, shop_id, stored, quantities)
    return lines
