"""What store_products makes of pages of products, their SKUs and the stock of those."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from sync.store.queries import query
from tests.integration.mapping import SHOP, Copy, Json, at

pytest_plugins = ("tests.integration.mapping_fixtures",)


def sku(id_: str, **fields: Any) -> Json:
    return {
        "id": id_,
        "seller_sku": f"code-{id_}",
        "price": {"currency": "EUR", "sale_price": "9.90"},
        **fields,
    }


def product(id_: str, update_time: int | None, *skus: Json, status: str = "ACTIVATE", **fields: Any) -> Json:
    record: Json = {"id": id_, "title": "Socks", "status": status, "skus": list(skus), **fields}
    if update_time is not None:
        record["update_time"] = update_time
    return record


def stock(product_id: str, *sku_ids: str, available: int = 5) -> Json:
    levels = [{"warehouse_id": "w", "available_quantity": available, "committed_quantity": 1}]
    return {"product_id": product_id, "skus": [{"id": s, "warehouse_inventory": levels} for s in sku_ids]}


async def deleted(copy: Copy, table: str, key: str) -> dict[str, datetime | None]:
    rows = await copy.rows(f"SELECT {key} AS key, _deleted_at FROM tiktok.{table} ORDER BY 1")
    return {r["key"]: r["_deleted_at"] for r in rows}


async def open_history(copy: Copy) -> list[str]:
    return await copy.column("SELECT sku_id FROM tiktok.inventory_history WHERE valid_to IS NULL ORDER BY 1")


async def test_a_page_that_is_stored_already_touches_no_row(copy: Copy) -> None:
    page = [product(str(n), 100, sku(f"{n}a"), sku(f"{n}b")) for n in range(10)]
    page.append(product("gone", 100, sku("x"), status="DELETED"))
    assert await copy.store("products", page) == (11, 0, 0, 0)
    before = await copy.versions("products") | await copy.versions("skus")
    assert await copy.store("products", page, fetched=60) == (0, 0, 0, 11)
    assert await copy.versions("products") | await copy.versions("skus") == before


async def test_an_older_version_never_overwrites_a_newer_one(copy: Copy) -> None:
    await copy.store("products", [product("1", 200, sku("a"))])
    assert await copy.store("products", [product("1", 199, sku("b"))], fetched=9) == (0, 0, 1, 0)
    assert await deleted(copy, "skus", "sku_id") == {"a": None}


async def test_without_a_newer_update_time_the_later_fetch_wins(copy: Copy) -> None:
    await copy.store("products", [product("1", 200, title="one")], fetched=5)
    assert await copy.store("products", [product("1", 200, title="two")], fetched=4) == (0, 0, 1, 0)
    assert await copy.store("products", [product("1", None, title="three")], fetched=4) == (0, 0, 1, 0)
    assert await copy.store("products", [product("1", 200, title="four")], fetched=6) == (0, 1, 0, 0)
    assert await copy.column("SELECT title FROM tiktok.products") == ["four"]


async def test_of_a_product_sent_twice_the_newest_version_counts(copy: Copy) -> None:
    page = [product("1", 200, sku("a"), title="newest"), product("1", 100, sku("b"), title="older")]
    assert await copy.store("products", page) == (1, 0, 0, 0)
    assert await copy.column("SELECT title FROM tiktok.products") == ["newest"]
    assert await deleted(copy, "skus", "sku_id") == {"a": None}


async def test_skus_follow_their_product(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("kept"), sku("changed"), sku("gone"))])
    before = {r["sku_id"]: r for r in await copy.rows("SELECT * FROM tiktok.skus")}
    changed = sku("changed", price={"currency": "EUR", "sale_price": "8.00"})
    await copy.store("products", [product("1", 101, sku("kept"), changed, sku("added"))], fetched=60)
    after = {r["sku_id"]: r for r in await copy.rows("SELECT * FROM tiktok.skus")}
    assert set(after) == {"kept", "changed", "gone", "added"}
    assert after["kept"] == before["kept"]
    assert str(after["changed"]["price"]) == "8.00"
    assert after["gone"]["_deleted_at"] == at(60)
    assert str(after["gone"]["price"]) == "9.90"


async def test_a_sku_that_is_listed_again_lives_again(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("products", [product("1", 101, status="DRAFT")], fetched=1)
    assert await deleted(copy, "skus", "sku_id") == {"a": at(1)}
    await copy.store("products", [product("1", 102, status="DRAFT")], fetched=2)
    assert await deleted(copy, "skus", "sku_id") == {"a": at(1)}
    await copy.store("products", [product("1", 103, sku("a"))], fetched=3)
    assert await deleted(copy, "skus", "sku_id") == {"a": None}


async def test_a_product_on_sale_that_shows_no_sku_at_all_loses_none(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", [stock("1", "a")], fetched=1)
    await copy.store("products", [product("1", 101)], fetched=2)
    assert await deleted(copy, "skus", "sku_id") == {"a": None}
    assert await open_history(copy) == ["a"]


async def test_a_product_that_vanished_and_is_shown_again_as_it_was_lives_again(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.connection.execute(
        "UPDATE tiktok.products SET _deleted_at = $1, _digest = NULL, _fetched_at = $1", at(5)
    )
    await copy.connection.execute("UPDATE tiktok.skus SET _deleted_at = $1", at(5))
    assert await copy.store("products", [product("1", 100, sku("a"))], fetched=4) == (0, 0, 1, 0)
    assert await copy.store("products", [product("1", 100, sku("a"))], fetched=6) == (0, 1, 0, 0)
    assert await deleted(copy, "products", "product_id") == {"1": None}
    assert await deleted(copy, "skus", "sku_id") == {"a": None}


async def test_a_sku_may_move_to_another_product_of_the_page(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a")), product("2", 100)])
    await copy.store("products", [product("1", 101), product("2", 101, sku("a"))])
    rows = await copy.rows("SELECT product_id, _deleted_at FROM tiktok.skus")
    assert [tuple(r) for r in rows] == [("2", None)]


async def test_an_absent_sku_takes_its_stock_along(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"), sku("b"))])
    await copy.store("inventory", [stock("1", "a", "b")], fetched=1)
    await copy.store("products", [product("1", 101, sku("b"))], fetched=2)
    assert await deleted(copy, "inventory", "sku_id") == {"a": at(2), "b": None}
    assert await copy.column("SELECT available_quantity FROM tiktok.inventory WHERE sku_id = 'a'") == [5]
    assert await open_history(copy) == ["b"]
    assert await copy.column("SELECT valid_to FROM tiktok.inventory_history WHERE sku_id = 'a'") == [at(2)]


async def test_stock_fetched_after_the_product_is_left_alone(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", [stock("1", "a")], fetched=9)
    await copy.store("products", [product("1", 101, status="DRAFT")], fetched=8)
    assert await deleted(copy, "inventory", "sku_id") == {"a": None}
    assert await open_history(copy) == ["a"]


@pytest.mark.parametrize("listed", [[], [sku("a")]])
async def test_a_deleted_product_takes_its_skus_and_stock_along(copy: Copy, listed: list[Json]) -> None:
    await copy.store("products", [product("1", 100, sku("a")), product("2", 100, sku("b"))])
    await copy.store("inventory", [stock("1", "a", "never seen in a product"), stock("2", "b")], fetched=1)
    when = int(at(2).timestamp())
    assert await copy.store("products", [product("1", when, *listed, status="DELETED")], fetched=5) == (
        0,
        1,
        0,
        0,
    )
    assert await deleted(copy, "products", "product_id") == {"1": at(2), "2": None}
    assert await deleted(copy, "skus", "sku_id") == {"a": at(2), "b": None}
    assert await deleted(copy, "inventory", "sku_id") == {
        "a": at(2),
        "b": None,
        "never seen in a product": at(2),
    }
    assert await open_history(copy) == ["b"]
    assert await copy.column(query("product_ids"), SHOP) == ["2"]


async def test_a_product_without_update_time_is_deleted_as_of_the_fetch(copy: Copy) -> None:
    await copy.store("products", [product("1", None, sku("a"), status="DELETED")], fetched=4)
    assert await deleted(copy, "products", "product_id") == {"1": at(4)}
    assert await deleted(copy, "skus", "sku_id") == {"a": at(4)}


async def test_a_product_edited_after_its_deletion_keeps_the_first_moment(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"), status="DELETED")])
    edited = product("1", 200, sku("a", seller_sku="other"), status="DELETED")
    assert await copy.store("products", [edited]) == (0, 1, 0, 0)
    first = datetime.fromtimestamp(100, tz=UTC)
    assert await deleted(copy, "products", "product_id") == {"1": first}
    assert await deleted(copy, "skus", "sku_id") == {"a": first}


async def test_a_sku_that_vanished_before_its_product_keeps_its_own_moment(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("products", [product("1", 101, status="DRAFT")], fetched=1)
    await copy.store("products", [product("1", 102, sku("a"), status="DELETED")], fetched=2)
    assert await deleted(copy, "skus", "sku_id") == {"a": at(1)}


async def test_a_product_that_comes_back_brings_its_skus_and_then_its_stock(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", [stock("1", "a")], fetched=1)
    await copy.store("products", [product("1", 101, sku("a"), status="DELETED")], fetched=2)
    await copy.store("products", [product("1", 102, sku("a"))], fetched=3)
    assert await deleted(copy, "products", "product_id") == {"1": None}
    assert await deleted(copy, "skus", "sku_id") == {"a": None}
    assert await copy.store("inventory", [stock("1", "a")], fetched=4) == (0, 1, 0, 0)
    assert await deleted(copy, "inventory", "sku_id") == {"a": None}
    assert await open_history(copy) == ["a"]


async def test_a_version_stored_meanwhile_makes_the_newer_one_come_again(copy: Copy) -> None:
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("products", [product("1", 100, sku("a"))])
        waiting = asyncio.create_task(copy.store("products", [product("1", 101, status="DRAFT")]))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    await copy.store("products", [product("1", 101, status="DRAFT")], fetched=1)
    assert await deleted(copy, "skus", "sku_id") == {"a": at(1)}


async def test_stock_that_changes_meanwhile_makes_the_page_come_again(copy: Copy) -> None:
    """Else the row would live on beside its deleted SKU."""
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", [stock("1", "a")], fetched=1)
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("inventory", [stock("1", "a", available=4)], fetched=2)
        waiting = asyncio.create_task(copy.store("products", [product("1", 101, status="DRAFT")], fetched=3))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    await copy.store("products", [product("1", 101, status="DRAFT")], fetched=3)
    assert await deleted(copy, "inventory", "sku_id") == {"a": at(3)}
    assert await open_history(copy) == []


async def test_stock_that_is_stored_while_its_product_is_deleted_makes_the_page_come_again(
    copy: Copy,
) -> None:
    """Else it would live for ever: nobody asks for the stock of a deleted product."""
    await copy.store("products", [product("1", 100, sku("a"))])
    gone = product("1", 101, sku("a"), status="DELETED")
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("inventory", [stock("1", "a")], fetched=1)
        waiting = asyncio.create_task(copy.store("products", [gone], fetched=2))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    assert await copy.store("products", [gone], fetched=2) == (0, 1, 0, 0)
    assert await copy.column("SELECT _deleted_at IS NULL FROM tiktok.inventory") == [False]
    assert await open_history(copy) == []


@pytest.mark.parametrize("before", [[], [stock("1", "b")]], ids=["no stock", "other stock"])
async def test_stock_waits_for_the_deletion_of_its_product_and_is_passed_over(
    copy: Copy, before: list[Json]
) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", before, fetched=1)
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("products", [product("1", 101, sku("a"), status="DELETED")], fetched=2)
        waiting = asyncio.create_task(copy.store("inventory", [stock("1", "a", "b")], fetched=3))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    assert await copy.store("inventory", [stock("1", "a", "b")], fetched=3) == (0, 0, 0, 0)
    assert await copy.column("SELECT sku_id FROM tiktok.inventory WHERE _deleted_at IS NULL") == []


async def test_stock_fetched_after_its_product_was_deleted_goes_too(copy: Copy) -> None:
    await copy.store("products", [product("1", 100, sku("a"))])
    await copy.store("inventory", [stock("1", "a")], fetched=9)
    await copy.store("products", [product("1", 101, status="DELETED")], fetched=8)
    assert await copy.column("SELECT _deleted_at IS NULL FROM tiktok.inventory") == [False]
    assert await copy.column("SELECT _fetched_at FROM tiktok.inventory") == [at(9)]
    assert await open_history(copy) == []


async def test_product_ids_come_in_order(copy: Copy) -> None:
    await copy.store("products", [product("30", 1), product("4", 1), product("1", 1, status="DELETED")])
    assert await copy.column(query("product_ids"), SHOP) == ["30", "4"]
