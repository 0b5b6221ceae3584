"""What the views of schema bi say, and who may read them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration.mapping import SHOP, Copy, Json, at

pytest_plugins = ("tests.integration.mapping_fixtures",)

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())


def unit(id_: str, **fields: Any) -> Json:
    prices = {
        "original_price": "10.00",
        "seller_discount": "1.00",
        "platform_discount": "0.50",
        "sale_price": "8.50",
    }
    return {"id": id_, "product_id": "p", "sku_id": "s", "currency": "EUR", **prices, **fields}


def order(id_: str, *units: Json, **fields: Any) -> Json:
    payment = {"currency": "EUR", "total_amount": "12.00", "shipping_fee": "3.50", "tax": "0"}
    record: Json = {
        "id": id_,
        "status": "DELIVERED",
        "create_time": NOON,
        "paid_time": NOON + 60,
        "payment": payment,
    }
    return record | {"line_items": list(units)} | fields


async def add_shop(copy: Copy, timezone: str | None = "Europe/Berlin") -> None:
    await copy.connection.execute(
        "INSERT INTO tiktok.shops (shop_id, name, region, timezone, _fetched_at)"
        " VALUES ($1, 'Shop', 'DE', $2, now())",
        SHOP,
        timezone,
    )


@pytest.fixture
async def reader(copy: Copy) -> AsyncIterator[Copy]:
    """The session as a role that was granted tiktok and bi, and nothing else."""
    run = copy.connection.execute
    # Roles are of the whole server, and other tests run on it at the same time.
    role = f"shopsync_reader_{uuid.uuid4().hex[:12]}"
    await run(f"CREATE ROLE {role}")
    try:
        await run(f"GRANT USAGE ON SCHEMA tiktok, bi TO {role}")
        await run(f"GRANT SELECT ON ALL TABLES IN SCHEMA tiktok, bi TO {role}")
        await run(f"SET ROLE {role}")
        yield copy
    finally:
        await run("RESET ROLE")
        await run(f"DROP OWNED BY {role}")
        await run(f"DROP ROLE {role}")


async def test_a_day_sums_the_units_of_its_paid_orders(copy: Copy) -> None:
    await add_shop(copy)
    page = [
        order("1", unit("1a"), unit("1b")),
        order(
            "2", unit("2a"), unit("2b", display_status="CANCELLED"), unit("2c", is_gift=True, sale_price="0")
        ),
    ]
    await copy.store("orders", page)
    rows = await copy.rows("SELECT * FROM bi.daily_sales")
    assert [dict(r) for r in rows] == [
        {
            "shop_id": SHOP,
            "shop_name": "Shop",
            "region": "DE",
            "order_date": date(2026, 3, 1),
            "currency": "EUR",
            "orders": 2,
            "units": 3,
            "gift_units": 1,
            "gross_merchandise": Decimal("30.00"),
            "seller_discount": Decimal("3.00"),
            "platform_discount": Decimal("1.50"),
            "net_merchandise": Decimal("25.50"),
            "shipping_fee": Decimal("7.00"),
            "tax": Decimal(0),
            "sales": Decimal("24.00"),
        }
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "CANCELLED"},
        {"paid_time": 0},
        {"is_sample_order": True},
        {"is_replacement_order": True},
        {"create_time": 0},
    ],
)
async def test_what_is_no_sale_does_not_count(copy: Copy, fields: Json) -> None:
    await add_shop(copy)
    await copy.store("orders", [order("1", unit("a"), **fields)])
    assert await copy.rows("SELECT * FROM bi.daily_sales") == []


@pytest.mark.parametrize("field", ["status", "is_sample_order", "is_replacement_order"])
async def test_a_paid_order_counts_although_the_api_leaves_fields_out(copy: Copy, field: str) -> None:
    await copy.store("orders", [{k: v for k, v in order("1", unit("a")).items() if k != field}])
    assert await copy.column("SELECT orders FROM bi.daily_sales") == [1]


@pytest.mark.parametrize(
    ("timezone", "day"),
    [("Asia/Jakarta", date(2026, 3, 2)), ("America/New_York", date(2026, 3, 1)), (None, date(2026, 3, 1))],
)
async def test_the_day_is_the_day_of_the_shop(copy: Copy, timezone: str | None, day: date) -> None:
    await add_shop(copy, timezone)
    await copy.connection.execute("SET timezone TO 'Pacific/Kiritimati'")
    await copy.store("orders", [order("1", unit("a"), create_time=NOON + 8 * 3600)])
    assert await copy.column("SELECT order_date FROM bi.daily_sales") == [day]
    assert await copy.column("SELECT order_date FROM bi.order_units") == [day]


async def test_a_shop_with_an_unknown_time_zone_is_refused(copy: Copy) -> None:
    with pytest.raises(asyncpg.DataError):
        await add_shop(copy, "Mars/Olympus_Mons")


async def test_currencies_are_never_added(copy: Copy) -> None:
    dollars = order("2", unit("b"), payment={"currency": "USD", "total_amount": "7.00"})
    await copy.store("orders", [order("1", unit("a")), dollars])
    rows = await copy.rows("SELECT currency, sales FROM bi.daily_sales ORDER BY 1")
    assert [tuple(r) for r in rows] == [("EUR", Decimal("12.00")), ("USD", Decimal("7.00"))]


async def test_the_units_that_count_are_those_of_the_daily_sales(copy: Copy) -> None:
    page = [
        order("1", unit("1a"), unit("1b", display_status="CANCELLED"), unit("1c", is_gift=True)),
        order("2", unit("2a"), status="CANCELLED"),
        order("3", unit("3a"), is_sample_order=True),
        order("4", unit("4a"), paid_time=0),
    ]
    await copy.store("orders", page)
    assert await copy.column("SELECT count(*) FROM bi.order_units") == [6]
    assert await copy.column("SELECT line_item_id FROM bi.order_units WHERE counts_as_sale") == ["1a"]
    assert await copy.column("SELECT units FROM bi.daily_sales") == [1]


async def add_stock(copy: Copy, available: int, *, fetched: int) -> None:
    level = {"available_quantity": available, "committed_quantity": 2}
    levels = [{"warehouse_id": "w", **level}, {"warehouse_id": "v", **level}]
    skus = [{"id": "s", "seller_sku": "code", "warehouse_inventory": levels}]
    await copy.store("inventory", [{"product_id": "p", "skus": skus}], fetched=fetched)


async def add_product(copy: Copy, update_time: int, status: str = "ACTIVATE") -> None:
    price = {"currency": "EUR", "sale_price": "9.90"}
    record = {"id": "p", "title": "Socks", "status": status, "update_time": update_time}
    await copy.store("products", [record | {"skus": [{"id": "s", "price": price}]}], fetched=update_time)


async def test_stock_is_summed_over_the_warehouses_of_a_sku(copy: Copy) -> None:
    await add_product(copy, 1)
    await add_stock(copy, 5, fetched=2)
    rows = await copy.rows(
        "SELECT product_title, seller_sku, currency, price, warehouses, available, committed, on_hand"
        "  FROM bi.stock_on_hand"
    )
    assert [tuple(r) for r in rows] == [("Socks", "code", "EUR", Decimal("9.90"), 2, 10, 4, 14)]


async def test_deleted_stock_is_not_on_hand(copy: Copy) -> None:
    await add_product(copy, 1)
    await add_stock(copy, 5, fetched=2)
    await add_product(copy, 3, "DELETED")
    assert await copy.rows("SELECT * FROM bi.stock_on_hand") == []


async def test_stock_can_be_asked_for_any_moment(copy: Copy) -> None:
    await add_product(copy, 1)
    await add_stock(copy, 5, fetched=10)
    await add_stock(copy, 4, fetched=20)
    await add_product(copy, 30, "DELETED")
    asked = "SELECT available_quantity FROM bi.inventory_asof($1) WHERE warehouse_id = 'w'"
    found = [await copy.column(asked, at(moment)) for moment in (9, 10, 19, 20, 29, 30)]
    assert found == [[], [5], [5], [4], [4], []]


async def test_orphans_name_the_rows_whose_parents_are_missing(copy: Copy) -> None:
    await copy.store("orders", [order("1", unit("a"))])
    await add_product(copy, 1)
    await add_stock(copy, 5, fetched=2)
    assert await copy.rows("SELECT * FROM bi.orphans") == []
    await copy.connection.execute("DELETE FROM tiktok.orders; DELETE FROM tiktok.products")
    found = await copy.rows("SELECT kind, id, parent_id FROM bi.orphans ORDER BY 1")
    assert [tuple(r) for r in found] == [
        ("line item without order", "a", "1"),
        ("sku without product", "s", "p"),
    ]
    await copy.connection.execute("DELETE FROM tiktok.skus")
    assert await copy.column("SELECT id FROM bi.orphans WHERE kind = 'inventory without sku' ORDER BY 1") == [
        "s @ v",
        "s @ w",
    ]


async def test_a_role_that_was_granted_tiktok_and_bi_can_use_everything(reader: Copy) -> None:
    views = await reader.column("SELECT viewname FROM pg_views WHERE schemaname = 'bi' ORDER BY 1")
    assert views == ["daily_sales", "order_units", "orphans", "stock_on_hand", "sync_completeness"]
    for view in views:
        await reader.rows(f"SELECT * FROM bi.{view}")
    await reader.rows("SELECT * FROM bi.inventory_asof(now())")
    for table in await reader.column("SELECT tablename FROM pg_tables WHERE schemaname = 'tiktok'"):
        await reader.rows(f"SELECT * FROM tiktok.{table}")


async def test_that_role_cannot_write_or_look_behind(reader: Copy) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.rows("DELETE FROM tiktok.orders")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.rows("SELECT * FROM sync.shops")


async def test_every_view_and_column_says_what_it_means(copy: Copy) -> None:
    silent = await copy.column(
        "SELECT c.relname || '.' || coalesce(a.attname, '') FROM pg_class AS c"
        "  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE c.relnamespace = 'bi'::regnamespace"
        "   AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)"
    )
    assert silent == []
    assert await copy.column(
        "SELECT obj_description('bi.inventory_asof(timestamptz)'::regprocedure, 'pg_proc')"
    ) != [None]
