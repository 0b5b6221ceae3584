"""What store_orders makes of pages of orders."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import asyncpg
import pytest

from tests.integration.mapping import Copy, Json, at

pytest_plugins = ("tests.integration.mapping_fixtures",)


def line(id_: str, **fields: Any) -> Json:
    return {"id": id_, "sku_id": "9", "currency": "EUR", "sale_price": "5.00", **fields}


def order(id_: str, update_time: int | None, *lines: Json, **fields: Any) -> Json:
    record: Json = {"id": id_, "status": "AWAITING_SHIPMENT", "line_items": list(lines), **fields}
    if update_time is not None:
        record["update_time"] = update_time
    return record


async def items(copy: Copy) -> dict[str, str]:
    rows = await copy.rows("SELECT line_item_id, order_id FROM tiktok.order_line_items ORDER BY 1")
    return {r["line_item_id"]: r["order_id"] for r in rows}


async def notes(copy: Copy) -> list[str]:
    return await copy.column("SELECT seller_note FROM tiktok.orders ORDER BY order_id")


async def test_a_page_that_is_stored_already_touches_no_row(copy: Copy) -> None:
    page = [order(str(n), 100 + n, line(f"{n}a"), line(f"{n}b")) for n in range(20)]
    assert await copy.store("orders", page) == (20, 0, 0, 0)
    before = await copy.versions("orders") | await copy.versions("order_line_items")
    assert await copy.store("orders", page, fetched=60) == (0, 0, 0, 20)
    assert await copy.versions("orders") | await copy.versions("order_line_items") == before


async def test_equal_content_in_another_order_of_keys_is_unchanged(copy: Copy) -> None:
    record = order("1", 100, line("a"), seller_note="x")
    await copy.store("orders", [record])
    turned = dict(reversed(record.items()))
    assert await copy.store("orders", [turned], fetched=1) == (0, 0, 0, 1)


async def test_an_older_version_never_overwrites_a_newer_one(copy: Copy) -> None:
    await copy.store("orders", [order("1", 200, line("a"), seller_note="new")])
    assert await copy.store("orders", [order("1", 199, seller_note="old")], fetched=9) == (0, 0, 1, 0)
    assert await notes(copy) == ["new"]
    assert await items(copy) == {"a": "1"}


async def test_a_newer_version_wins_even_when_it_was_fetched_earlier(copy: Copy) -> None:
    await copy.store("orders", [order("1", 200, seller_note="old")], fetched=9)
    assert await copy.store("orders", [order("1", 201, seller_note="new")], fetched=5) == (0, 1, 0, 0)
    assert await notes(copy) == ["new"]


@pytest.mark.parametrize(("first", "second"), [(200, 200), (None, None), (200, None), (None, 200)])
async def test_without_a_newer_update_time_the_later_fetch_wins(
    copy: Copy, first: int | None, second: int | None
) -> None:
    await copy.store("orders", [order("1", first, seller_note="one")], fetched=5)
    assert await copy.store("orders", [order("1", second, seller_note="two")], fetched=4) == (0, 0, 1, 0)
    assert await notes(copy) == ["one"]
    assert await copy.store("orders", [order("1", second, seller_note="two")], fetched=6) == (0, 1, 0, 0)
    assert await notes(copy) == ["two"]


async def test_of_an_order_sent_twice_the_newest_and_then_the_last_version_counts(copy: Copy) -> None:
    page = [
        order("1", 200, line("a"), seller_note="newest"),
        order("1", 100, line("b"), seller_note="older"),
        order("1", None, line("c"), seller_note="undated"),
        order("2", 300, seller_note="first of two"),
        order("2", 300, seller_note="last of two"),
    ]
    assert await copy.store("orders", page) == (2, 0, 0, 0)
    assert await notes(copy) == ["newest", "last of two"]
    assert await items(copy) == {"a": "1"}


async def test_line_items_follow_their_order(copy: Copy) -> None:
    await copy.store("orders", [order("1", 100, line("kept"), line("changed"), line("gone"))])
    before = {r["line_item_id"]: r for r in await copy.rows("SELECT * FROM tiktok.order_line_items")}
    new = order("1", 101, line("kept"), line("changed", sale_price="4.50"), line("added"))
    await copy.store("orders", [new], fetched=60)
    after = {r["line_item_id"]: r for r in await copy.rows("SELECT * FROM tiktok.order_line_items")}
    assert set(after) == {"kept", "changed", "added"}
    assert after["kept"] == before["kept"]
    assert str(after["changed"]["sale_price"]) == "4.50"
    assert after["changed"]["_synced_at"] > before["changed"]["_synced_at"]
    assert after["added"]["_fetched_at"] == at(60)


@pytest.mark.parametrize(("giver", "taker"), [("1", "2"), ("2", "1")])
async def test_a_line_item_may_move_to_another_order_of_the_page(copy: Copy, giver: str, taker: str) -> None:
    await copy.store("orders", [order(giver, 100, line("x"), line("y")), order(taker, 100, line("z"))])
    await copy.store("orders", [order(giver, 101, line("y")), order(taker, 101, line("x"), line("z"))])
    assert await items(copy) == {"x": taker, "y": giver, "z": taker}


async def test_a_line_item_that_moved_survives_the_update_of_its_former_order(copy: Copy) -> None:
    await copy.store("orders", [order("1", 100, line("x"))])
    await copy.store("orders", [order("2", 101, line("x"))], fetched=1)
    await copy.store("orders", [order("1", 102)], fetched=2)
    assert await items(copy) == {"x": "2"}


async def test_a_line_item_that_came_and_went_with_another_order_is_stored_again(copy: Copy) -> None:
    await copy.store("orders", [order("1", 100, line("x"))])
    await copy.store("orders", [order("2", 101, line("x"))], fetched=1)
    await copy.store("orders", [order("2", 102)], fetched=2)
    assert await items(copy) == {}
    await copy.store("orders", [order("1", 103, line("x"))], fetched=3)
    assert await items(copy) == {"x": "1"}


async def test_an_order_fetched_earlier_does_not_take_back_a_line_item_that_moved(copy: Copy) -> None:
    await copy.store("orders", [order("2", 101, line("x"))], fetched=5)
    await copy.store("orders", [order("1", 100, line("x"))], fetched=4)
    assert await items(copy) == {"x": "2"}


@pytest.mark.parametrize("nothing", [None, []])
async def test_an_order_without_line_items_loses_its_old_ones(copy: Copy, nothing: object) -> None:
    await copy.store("orders", [order("1", 100, line("x"))])
    await copy.store("orders", [{"id": "1", "update_time": 101, "line_items": nothing}])
    assert await items(copy) == {}


async def test_a_line_item_without_id_stays_in_the_order_only(copy: Copy) -> None:
    sent = [order("1", 100, {"sku_id": "9"}, line(""), line("x"))]
    with pytest.raises(asyncpg.NotNullViolationError):
        await copy.store("orders", sent)
    await copy.connection.execute("SET search_path TO sync_lenient")
    await copy.store("orders", sent)
    assert await items(copy) == {"x": "1"}
    assert await copy.column("SELECT jsonb_array_length(_raw->'line_items') FROM tiktok.orders") == [3]


async def test_scrubbed_orders_are_flagged_and_unflagged(copy: Copy) -> None:
    flags = "SELECT _scrubbed FROM tiktok.orders ORDER BY order_id"
    await copy.store("orders", [order("1", 100), order("2", 100)], scrubbed=["2"])
    assert await copy.column(flags) == [False, True]
    await copy.store("orders", [order("2", 101)])
    assert await copy.column(flags) == [False, False]


async def test_shops_do_not_see_each_other(copy: Copy) -> None:
    await copy.connection.execute(
        "INSERT INTO tiktok.orders (shop_id, order_id, update_time, _fetched_at, _raw)"
        " VALUES ('other', '1', to_timestamp(999), now(), '{}')"
    )
    assert await copy.store("orders", [order("1", 100)]) == (1, 0, 0, 0)


async def test_a_version_stored_meanwhile_makes_the_newer_one_come_again(copy: Copy) -> None:
    """The other session's line items are invisible to the statement that waited for it."""
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("orders", [order("1", 100, line("x"), line("y"))])
        waiting = asyncio.create_task(copy.store("orders", [order("1", 101, line("y"))]))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        with pytest.raises(asyncpg.SerializationError):
            await waiting
    assert await copy.store("orders", [order("1", 101, line("y"))]) == (0, 1, 0, 0)
    assert await items(copy) == {"y": "1"}


async def test_a_newer_version_stored_meanwhile_makes_the_older_one_stale(copy: Copy) -> None:
    await copy.store("orders", [order("1", 100, line("x"))])
    async with copy.another_session() as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.store("orders", [order("1", 300, line("y"), seller_note="newest")])
        waiting = asyncio.create_task(copy.store("orders", [order("1", 200, line("z"))]))
        await other.wait_until_blocked(copy)
        await transaction.commit()
        assert await waiting == (0, 0, 1, 0)
    assert await notes(copy) == ["newest"]
    assert await items(copy) == {"y": "1"}


async def test_overlapping_pages_in_opposite_order_never_deadlock(copy: Copy) -> None:
    draw = random.Random(7)

    async def write(session: Copy, first_time: int, *, step: int) -> None:
        for turn in range(25):
            ids = [str(n) for n in range(120)]
            draw.shuffle(ids)
            page = [order(i, first_time + 2 * turn, line(f"{i}-{first_time + turn}")) for i in ids[::step]]
            while True:
                try:
                    await session.store("orders", page, fetched=turn)
                    break
                except asyncpg.SerializationError:
                    continue

    async with copy.another_session() as other:
        await asyncio.gather(write(copy, 1, step=1), write(other, 2, step=-1))
    expected = {
        json.loads(raw)["line_items"][0]["id"] for raw in await copy.column("SELECT _raw FROM tiktok.orders")
    }
    assert set(await items(copy)) == expected
    assert len(expected) == 120
