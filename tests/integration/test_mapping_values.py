"""How the values of the API become typed columns, and what happens to those that do not fit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration.mapping import Copy, Json

pytest_plugins = ("tests.integration.mapping_fixtures",)

REFUSED = (asyncpg.DataError, asyncpg.CheckViolationError)


@pytest.mark.parametrize("schema", ["sync_strict", "sync_lenient"])
@pytest.mark.parametrize(
    ("typing", "text", "value"),
    [
        ("money", "35.97", Decimal("35.97")),
        ("money", "-0.10", Decimal("-0.10")),
        ("money", "5000", Decimal(5000)),
        ("money", "1e3", Decimal(1000)),
        ("money", "", None),
        ("money", None, None),
        ("whole", "-7", -7),
        ("whole", "999999999999999999", 999999999999999999),
        ("whole", "", None),
        ("flag", "true", True),
        ("flag", "false", False),
        ("flag", "", None),
        ("word", "x", "x"),
        ("word", " ", " "),
        ("word", "", None),
        ("epoch", "1619611561", datetime(2021, 4, 28, 12, 6, 1, tzinfo=UTC)),
        ("epoch", "0", None),
        ("epoch", "", None),
        ("epoch", None, None),
        ("epoch_ms", "1768899145250", datetime(2026, 1, 20, 8, 52, 25, 250000, tzinfo=UTC)),
        ("epoch_ms", "0", None),
    ],
)
async def test_values_that_fit_are_typed(
    copy: Copy, schema: str, typing: str, text: str | None, value: Any
) -> None:
    assert await copy.column(f"SELECT {schema}.{typing}($1)", text) == [value]


@pytest.mark.parametrize(
    ("typing", "text"),
    [
        ("money", "1,234.50"),
        ("money", "12 EUR"),
        ("money", "-"),
        ("money", "."),
        ("money", "1e999999"),
        ("money", "٣"),
        ("money", '{"amount": "1"}'),
        ("whole", "1.5"),
        ("whole", "99999999999999999999"),
        ("whole", "9" * 5000),
        ("flag", "maybe"),
        ("epoch", "yesterday"),
        ("epoch", "2026-03-01T12:00:00Z"),
        ("epoch", "1e9"),
        ("epoch", "9223372036854775807"),
        ("epoch_ms", "soon"),
    ],
)
async def test_values_that_do_not_fit_stop_a_strict_reader_and_are_null_to_a_lenient_one(
    copy: Copy, typing: str, text: str
) -> None:
    with pytest.raises(asyncpg.DataError):
        await copy.rows(f"SELECT sync_strict.{typing}($1)", text)
    assert await copy.column(f"SELECT sync_lenient.{typing}($1)", text) == [None]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-inf", "nan"])
async def test_lenient_money_is_always_finite(copy: Copy, text: str) -> None:
    assert await copy.column("SELECT sync_lenient.money($1)", text) == [None]


@pytest.mark.parametrize(
    ("stream", "record", "column"),
    [
        ("orders", {"payment": {"total_amount": "NaN"}}, "total_amount"),
        ("orders", {"payment": {"tax": "-Infinity"}}, "tax"),
        ("orders", {"payment": {"tax": "none"}}, "tax"),
        ("orders", {"paid_time": 1619611561000}, "paid_time"),
        ("orders", {"is_cod": "perhaps"}, "is_cod"),
        ("orders", {"handling_duration": {"days": "a week"}}, "handling_duration_days"),
        ("products", {"scheduled_sale": {"schedule_sale_time": 10**17}}, "schedule_sale_time"),
        ("warehouses", {"address": {"geolocation": {"latitude": "NaN"}}}, "latitude"),
    ],
)
async def test_a_record_with_a_value_that_does_not_fit_is_stored_leniently(
    copy: Copy, stream: str, record: Json, column: str
) -> None:
    sent = {"id": "1", **record}
    with pytest.raises(REFUSED):
        await copy.store(stream, [sent])
    await copy.connection.execute("SET search_path TO sync_lenient")
    assert await copy.store(stream, [sent]) == (1, 0, 0, 0)
    assert await copy.column(f"SELECT {column} FROM tiktok.{stream}") == [None]
    assert await copy.column(f"SELECT _raw ?& $1 FROM tiktok.{stream}", list(sent)) == [True]


@pytest.mark.parametrize(
    ("stream", "record", "child"),
    [
        ("orders", {"id": "1", "line_items": [{"id": "a", "sale_price": "Infinity"}]}, "order_line_items"),
        ("products", {"id": "1", "skus": [{"id": "a", "price": {"sale_price": "NaN"}}]}, "skus"),
    ],
)
async def test_a_child_with_a_value_that_does_not_fit_is_stored_leniently(
    copy: Copy, stream: str, record: Json, child: str
) -> None:
    with pytest.raises(REFUSED):
        await copy.store(stream, [record])
    await copy.connection.execute("SET search_path TO sync_lenient")
    await copy.store(stream, [record])
    assert await copy.column(f"SELECT count(*) FROM tiktok.{child}") == [1]


@pytest.mark.parametrize(("stream", "key"), [("orders", "line_items"), ("products", "skus")])
@pytest.mark.parametrize("wrong", [{"id": "a"}, "a", 7])
async def test_children_that_are_no_list_cost_the_children_only(
    copy: Copy, stream: str, key: str, wrong: object
) -> None:
    record = {"id": "1", key: wrong}
    with pytest.raises(asyncpg.DataError):
        await copy.store(stream, [record])
    await copy.connection.execute("SET search_path TO sync_lenient")
    assert await copy.store(stream, [record]) == (1, 0, 0, 0)
    await copy.connection.execute("SET search_path TO sync_strict")
    assert await copy.store(stream, [{"id": "1", key: [{"id": "a"}]}], fetched=1) == (0, 1, 0, 0)


async def test_one_poisoned_record_of_two_hundred_costs_none_of_the_others(copy: Copy) -> None:
    page = [{"id": str(n), "update_time": 1700000000, "line_items": [{"id": f"{n}a"}]} for n in range(200)]
    page[137]["payment"] = {"total_amount": "12,50"}
    with pytest.raises(asyncpg.DataError):
        await copy.store("orders", page)
    assert await copy.column("SELECT count(*) FROM tiktok.orders") == [0]
    assert await copy.store("orders", page[:137] + page[138:]) == (199, 0, 0, 0)
    async with copy.connection.transaction():
        await copy.connection.execute("SET LOCAL search_path TO sync_lenient")
        assert await copy.store("orders", [page[137]]) == (1, 0, 0, 0)
    assert await copy.store("orders", page, fetched=9) == (0, 0, 0, 200)
    assert await copy.column("SELECT count(*) FROM tiktok.order_line_items") == [200]
    unfit = await copy.rows(
        "SELECT total_amount, _raw->'payment'->>'total_amount' FROM tiktok.orders WHERE _raw ? 'payment'"
    )
    assert [tuple(r) for r in unfit] == [(None, "12,50")]


async def test_strict_typing_costs_no_function_call(copy: Copy) -> None:
    """A function that is not inlined multiplies the cost of a page; the plan would name it."""
    calls = "money(t), epoch(t), epoch_ms(t), whole(t), flag(t), word(t), node(t::jsonb), list(t::jsonb)"
    plan = await copy.column(
        f"EXPLAIN (VERBOSE) SELECT {calls} FROM (SELECT relname::text AS t FROM pg_class) AS r"
    )
    assert "NULLIF" in "\n".join(plan)
    assert "sync_strict." not in "\n".join(plan)
