"""What store_inventory and store_warehouses make of their answers."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.integration.mapping import Copy, Json, at

pytest_plugins = ("tests.integration.mapping_fixtures",)

Level = tuple[str, int | None, int | None]


def stock(product_id: str, **skus: list[Level]) -> Json:
    return {
        "product_id": product_id,
        "skus": [
            {
                "id": id_,
                "seller_sku": f"code-{id_}",
                "total_available_quantity": sum(level[1] or 0 for level in levels),
                "warehouse_inventory": [
                    {"warehouse_id": w, "available_quantity": a, "committed_quantity": c}
                    for w, a, c in levels
                ],
            }
            for id_, levels in skus.items()
        ],
    }


async def history(copy: Copy) -> list[tuple[Any, ...]]:
    rows = await copy.rows(
        "SELECT sku_id, warehouse_id, valid_from, valid_to, available_quantity, committed_quantity"
        "  FROM tiktok.inventory_history ORDER BY 1, 2, 3"
    )
    return [tuple(r) for r in rows]


async def levels(copy: Copy) -> list[tuple[Any, ...]]:
    rows = await copy.rows(
        "SELECT sku_id, warehouse_id, available_quantity, _deleted_at FROM tiktok.inventory ORDER BY 1, 2"
    )
    return [tuple(r) for r in rows]


async def test_an_answer_that_is_stored_already_touches_no_row(copy: Copy) -> None:
    answer = [stock("1", a=[("w", 5, 1), ("v", 6, 0)], b=[("w", 7, 2)]), stock("2", c=[("w", 0, 0)])]
    assert await copy.store("inventory", answer) == (4, 0, 0, 0)
    before = await copy.versions("inventory") | await copy.versions("inventory_history")
    assert await copy.store("inventory", answer, fetched=60) == (0, 0, 0, 4)
    assert await copy.versions("inventory") | await copy.versions("inventory_history") == before


async def test_an_answer_fetched_earlier_changes_nothing(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=9)
    assert await copy.store("inventory", [stock("1", a=[("w", 4, 1)])], fetched=8) == (0, 0, 1, 0)
    assert await copy.store("inventory", [stock("1")], fetched=8) == (0, 0, 0, 0)
    assert await levels(copy) == [("a", "w", 5, None)]
    assert await history(copy) == [("a", "w", at(9), None, 5, 1)]


async def test_other_quantities_close_the_open_row_and_open_the_next(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    assert await copy.store("inventory", [stock("1", a=[("w", 4, 2)])], fetched=2) == (0, 1, 0, 0)
    await copy.store("inventory", [stock("1", a=[("w", 4, 3)])], fetched=3)
    assert await history(copy) == [
        ("a", "w", at(1), at(2), 5, 1),
        ("a", "w", at(2), at(3), 4, 2),
        ("a", "w", at(3), None, 4, 3),
    ]


async def test_what_is_no_quantity_leaves_the_history_alone(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    answer = stock("1", a=[("w", 5, 1)])
    answer["skus"][0]["seller_sku"] = "renamed"
    assert await copy.store("inventory", [answer], fetched=2) == (0, 1, 0, 0)
    assert await history(copy) == [("a", "w", at(1), None, 5, 1)]
    assert await copy.column("SELECT seller_sku FROM tiktok.inventory") == ["renamed"]


async def test_two_answers_of_one_moment_leave_the_later_one(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    await copy.store("inventory", [stock("1", a=[("w", 4, 1)])], fetched=1)
    assert await levels(copy) == [("a", "w", 4, None)]
    assert await history(copy) == [("a", "w", at(1), None, 4, 1)]


async def test_an_absent_warehouse_or_sku_is_marked_and_its_history_closed(copy: Copy) -> None:
    first = [stock("1", a=[("w", 5, 1), ("v", 6, 0)], b=[("w", 7, 2)]), stock("2", c=[("w", 1, 0)])]
    await copy.store("inventory", first, fetched=1)
    assert await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=2) == (0, 3, 0, 0)
    assert await levels(copy) == [
        ("a", "v", 6, at(2)),
        ("a", "w", 5, None),
        ("b", "w", 7, at(2)),
        ("c", "w", 1, None),
    ]
    assert await history(copy) == [
        ("a", "v", at(1), at(2), 6, 0),
        ("a", "w", at(1), None, 5, 1),
        ("b", "w", at(1), at(2), 7, 2),
        ("c", "w", at(1), None, 1, 0),
    ]


async def test_stock_that_is_listed_again_lives_again(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    await copy.store("inventory", [stock("1", a=[])], fetched=2)
    assert await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=3) == (0, 1, 0, 0)
    assert await levels(copy) == [("a", "w", 5, None)]
    assert await history(copy) == [("a", "w", at(1), at(2), 5, 1), ("a", "w", at(3), None, 5, 1)]


async def test_a_product_that_shows_no_sku_at_all_loses_no_stock(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    assert await copy.store("inventory", [stock("1")], fetched=2) == (0, 0, 0, 0)
    assert await levels(copy) == [("a", "w", 5, None)]


async def test_stock_that_vanishes_and_returns_in_one_moment_is_open_again(copy: Copy) -> None:
    for answer in (stock("1", a=[("w", 5, 1)]), stock("1", a=[]), stock("1", a=[("w", 6, 1)])):
        await copy.store("inventory", [answer], fetched=1)
    assert await history(copy) == [("a", "w", at(1), None, 6, 1)]


async def test_a_row_sent_twice_counts_once(copy: Copy) -> None:
    answer = [stock("1", a=[("w", 5, 1), ("w", 4, 1)]), stock("1", a=[("w", 3, 1)])]
    assert await copy.store("inventory", answer) == (1, 0, 0, 0)
    assert await levels(copy) == [("a", "w", 3, None)]


async def test_a_sku_may_move_to_another_product(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)]), stock("2")], fetched=1)
    await copy.store("inventory", [stock("1"), stock("2", a=[("w", 5, 1)])], fetched=2)
    assert await copy.column("SELECT product_id FROM tiktok.inventory WHERE _deleted_at IS NULL") == ["2"]
    assert await history(copy) == [("a", "w", at(1), None, 5, 1)]


async def test_unknown_quantities_are_null(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", None, None)])], fetched=1)
    await copy.store("inventory", [stock("1", a=[("w", None, 1)])], fetched=2)
    assert await history(copy) == [("a", "w", at(1), at(2), None, None), ("a", "w", at(2), None, None, 1)]


async def test_history_never_overlaps(copy: Copy) -> None:
    for moment, quantity in enumerate([3, 3, 2, None, 5, 5, None, None, 1]):
        answer = stock("1") if quantity is None else stock("1", a=[("w", quantity, 0)])
        await copy.store("inventory", [answer], fetched=moment)
    ranges = await copy.column(
        "SELECT range_agg(tstzrange(valid_from, valid_to)) IS NOT NULL AND"
        " count(*) = (SELECT count(*) FROM unnest(array_agg(tstzrange(valid_from, valid_to))) AS r"
        "              WHERE NOT EXISTS (SELECT FROM tiktok.inventory_history AS o"
        "                                 WHERE tstzrange(o.valid_from, o.valid_to) && r"
        "                                   AND tstzrange(o.valid_from, o.valid_to) <> r))"
        "  FROM tiktok.inventory_history"
    )
    assert ranges == [True]
    assert len(await history(copy)) == 4


async def test_a_later_answer_waits_for_the_one_under_way_and_comes_again(copy: Copy) -> None:
    await copy.store("inventory", [stock("1", a=[("w", 5, 1)])], fetched=1)
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("inventory", [stock("1", a=[("w", 4, 1)])], fetched=2)
        waiting = asyncio.create_task(copy.store("inventory", [stock("1", a=[("w", 3, 1)])], fetched=3))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    await copy.store("inventory", [stock("1", a=[("w", 3, 1)])], fetched=3)
    assert [row[2:5] for row in await history(copy)] == [
        (at(1), at(2), 5),
        (at(2), at(3), 4),
        (at(3), None, 3),
    ]


def place(id_: str, **fields: Any) -> Json:
    return {"id": id_, "name": f"place {id_}", "type": "SALES_WAREHOUSE", **fields}


async def gone(copy: Copy) -> dict[str, Any]:
    rows = await copy.rows("SELECT warehouse_id, _deleted_at FROM tiktok.warehouses ORDER BY 1")
    return {r["warehouse_id"]: r["_deleted_at"] for r in rows}


async def test_the_list_of_warehouses_is_complete(copy: Copy) -> None:
    assert await copy.store("warehouses", [place("1"), place("2")], fetched=1) == (2, 0, 0, 0)
    before = await copy.versions("warehouses")
    assert await copy.store("warehouses", [place("1"), place("2")], fetched=2) == (0, 0, 0, 2)
    assert await copy.versions("warehouses") == before
    assert await copy.store("warehouses", [place("2")], fetched=3) == (0, 1, 0, 1)
    assert await gone(copy) == {"1": at(3), "2": None}
    assert await copy.store("warehouses", [place("1"), place("2")], fetched=4) == (0, 1, 0, 1)
    assert await gone(copy) == {"1": None, "2": None}
    assert await copy.store("warehouses", [], fetched=5) == (0, 2, 0, 0)
    assert await gone(copy) == {"1": at(5), "2": at(5)}


async def test_a_list_fetched_earlier_changes_nothing(copy: Copy) -> None:
    await copy.store("warehouses", [place("1"), place("2")], fetched=9)
    assert await copy.store("warehouses", [place("1", name="old")], fetched=8) == (0, 0, 1, 0)
    assert await gone(copy) == {"1": None, "2": None}
    assert await copy.column("SELECT name FROM tiktok.warehouses ORDER BY 1") == ["place 1", "place 2"]


async def test_the_region_is_the_code_or_else_the_name(copy: Copy) -> None:
    named = {"region": "China", "region_code": ""}
    coded = {"region": "China", "region_code": "CN"}
    await copy.store("warehouses", [place("1", address=named), place("2", address=coded)])
    assert await copy.column("SELECT region FROM tiktok.warehouses ORDER BY warehouse_id") == ["China", "CN"]
    assert await copy.column("SELECT DISTINCT region_name FROM tiktok.warehouses") == ["China"]
