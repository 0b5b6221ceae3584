"""Hints as they are kept: read in turn, settled only by a read that is newer, given up in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync.cli.upkeep import tell_cost
from sync.store.hints import Heard, Hint, Hints, reread_requests_per_hour
from sync.store.pool import Database
from sync.store.queries import query

STREAMS = ("consent", "orders", "products", "inventory")
SHOP = "7495540735365777507"


@pytest.fixture
async def hints(database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Hints]:
    """The hints of one connected shop, of which there are none yet."""
    await connection.execute(
        "INSERT INTO sync.credentials (app, open_id, access_token, refresh_token, access_expires_at,"
        " refresh_expires_at) VALUES ('default', 'seller', '', '', now(), now())"
    )
    await add_shop(connection, SHOP)
    async with Database(database_url, size=4) as database:
        yield Hints(database)


async def add_shop(connection: asyncpg.Connection, shop_id: str, state: str = "active") -> None:
    await connection.execute(
        "INSERT INTO sync.shops (shop_id, credential_id, cipher, state)"
        " SELECT $1, credential_id, 'c', $2 FROM sync.credentials",
        shop_id,
        state,
    )


async def add_orders(
    connection: asyncpg.Connection, count: int, *, status: str = "UNPAID", first: int = 1
) -> None:
    await connection.execute(
        "INSERT INTO tiktok.orders (shop_id, order_id, status, _fetched_at)"
        " SELECT $1, lpad(n::text, 6, '0'), $2, now()"
        " FROM generate_series($3::int, $3::int + $4::int - 1) AS n",
        SHOP, status, first, count,
    )  # fmt: skip


async def tell(hints: Hints, number: int, *named: tuple[str, str], shop_id: str = SHOP) -> str:
    return await hints.hear(Heard(f"n{number}", shop_id, "default", None, named))


async def due(hints: Hints) -> list[Hint]:
    return await hints.due(SHOP, STREAMS, at_most=500)


async def test_a_read_settles_what_was_hinted_at_before_it_began(hints: Hints) -> None:
    await tell(hints, 1, ("orders", "7"), ("products", "8"))
    read = await due(hints)
    assert {(h.stream, h.key) for h in read} == {("orders", "7"), ("products", "8")}
    assert await hints.settle(SHOP, read) == 2
    assert await due(hints) == []


async def test_a_read_does_not_settle_what_was_hinted_at_after_it_began(hints: Hints) -> None:
    await tell(hints, 1, ("orders", "7"))
    read = await due(hints)
    await tell(hints, 2, ("orders", "7"))
    assert await hints.settle(SHOP, read) == 0
    assert await hints.settle(SHOP, await due(hints)) == 1


async def test_the_order_in_which_notifications_come_is_of_no_matter(hints: Hints) -> None:
    for number, key in ((3, "7"), (1, "7"), (2, "8")):
        await tell(hints, number, ("orders", key))
    assert [h.key for h in await due(hints)] == ["7", "8"]


async def test_what_cannot_be_read_is_tried_later_and_later_and_then_given_up(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await tell(hints, 1, ("orders", "7"))
    waits = []
    while read := await due(hints):
        await hints.postpone(SHOP, read)
        assert await due(hints) == []
        waits.append(
            await connection.fetchval("SELECT extract(epoch FROM due_at - now())::int FROM sync.hints")
        )
        await connection.execute("UPDATE sync.hints SET due_at = now()")
    assert waits == [2, 4, 8, 16, None]
    assert await connection.fetchval("SELECT count(*) FROM sync.hints") == 0


async def test_what_failed_and_is_hinted_at_again_is_due_at_once(hints: Hints) -> None:
    await tell(hints, 1, ("orders", "7"))
    await hints.postpone(SHOP, await due(hints))
    await tell(hints, 2, ("orders", "7"))
    assert [h.key for h in await due(hints)] == ["7"]


async def test_what_is_hinted_at_while_its_read_fails_is_not_postponed(hints: Hints) -> None:
    await tell(hints, 1, ("orders", "7"))
    read = await due(hints)
    await tell(hints, 2, ("orders", "7"))
    await hints.postpone(SHOP, read)
    assert [h.key for h in await due(hints)] == ["7"]


async def test_many_who_tell_of_the_same_records_and_settle_them_collide_in_no_lock(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    keys = [str(n) for n in range(40)]

    async def talk(speaker: int) -> None:
        for turn in range(10):
            order = keys if (speaker + turn) % 2 else keys[::-1]
            await tell(hints, speaker * 100 + turn, *(("orders", key) for key in order))
            await hints.settle(SHOP, (await due(hints))[:: 1 if speaker % 2 else -1])

    await asyncio.gather(*(talk(speaker) for speaker in range(6)))
    await hints.settle(SHOP, await due(hints))
    assert await connection.fetchval("SELECT count(*) FROM sync.hints") == 0
    assert await connection.fetchval("SELECT count(*) FROM sync.notifications") == 60


async def test_nothing_of_a_parked_stream_is_read_out_of_turn(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO sync.cursors (shop_id, stream, parked_reason) VALUES ($1, 'orders', 'no scope'),"
        " ($1, 'products', NULL)",
        SHOP,
    )
    await tell(hints, 1, ("orders", "7"), ("products", "7"))
    assert [h.stream for h in await due(hints)] == ["products"]
    assert await connection.fetchval("SELECT count(*) FROM sync.hints") == 1


async def test_shops_with_hints_are_found_by_one_look_if_they_are_active(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_shop(connection, "2")
    await add_shop(connection, "3")
    for number, shop_id in enumerate((SHOP, "2"), start=1):
        await tell(hints, number, ("orders", "7"), shop_id=shop_id)
    await connection.execute("UPDATE sync.shops SET state = 'paused' WHERE shop_id = '2'")
    assert await hints.shops() == {SHOP: False}


async def test_a_shop_is_found_however_much_waits_in_others(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_shop(connection, "2", "paused")
    await connection.execute(
        "INSERT INTO sync.hints (shop_id, stream, key, source, due_at)"
        " SELECT '2', 'orders', n::text, 'notification', now() - interval '1 hour'"
        " FROM generate_series(1, 6000) AS n"
    )
    await tell(hints, 1, ("orders", "7"))
    assert await hints.shops() == {SHOP: False}


async def test_orders_that_come_during_a_round_do_not_prolong_it(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 60)
    await hints.begin_rereads(round_s=3600)
    seen: list[str] = []
    for turn in range(5):
        await connection.execute("UPDATE sync.rereads SET due_at = now()")
        await hints.take_turns(round_s=3600)
        read = await due(hints)
        seen += sorted(h.key for h in read)
        await hints.settle(SHOP, read)
        if turn == 0:
            await add_orders(connection, 60, first=1000)
            await connection.execute(
                "UPDATE tiktok.orders SET status = 'COMPLETED' WHERE order_id = '000055'"
            )
    first = [f"{n:06}" for n in range(1, 61)]
    second = [*(key for key in first if key != "000055"), *(f"{n:06}" for n in range(1000, 1060))]
    assert seen == [*(key for key in first if key != "000055"), *second]


async def test_every_open_order_has_one_turn_in_a_round_in_their_order(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 120)
    await add_orders(connection, 30, status="COMPLETED", first=1000)
    await hints.begin_rereads(round_s=3600)
    seen: list[str] = []
    spans = []
    for _ in range(3):
        await connection.execute("UPDATE sync.rereads SET due_at = now()")
        assert await hints.take_turns(round_s=3600) == [SHOP]
        read = await due(hints)
        assert {h.source for h in read} == {"reread"}
        seen += sorted(h.key for h in read)
        await hints.settle(SHOP, read)
        spans.append(
            await connection.fetchval("SELECT extract(epoch FROM due_at - now())::int FROM sync.rereads")
        )
    assert seen == [f"{n:06}" for n in range(1, 121)]
    # 120 orders in requests of 50 are spread over the hour.
    assert spans == [1500, 1500, 1500]
    row = await connection.fetchrow("SELECT after_order, last_round_orders, last_round_s FROM sync.rereads")
    assert (row["after_order"], row["last_round_orders"]) == ("", 120)
    assert row["last_round_s"] is not None


async def test_a_shop_that_has_not_read_its_last_turn_gets_no_more(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 120)
    await hints.begin_rereads(round_s=3600)
    for turns in ([SHOP], []):
        await connection.execute("UPDATE sync.rereads SET due_at = now()")
        assert await hints.take_turns(round_s=3600) == turns
    assert len(await due(hints)) == 50


async def test_a_round_that_is_too_short_costs_one_request_in_two_seconds_all_the_same(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 300)
    await hints.begin_rereads(round_s=1)
    await connection.execute("UPDATE sync.rereads SET due_at = now()")
    await hints.take_turns(round_s=1)
    assert await connection.fetchval("SELECT due_at - now() > interval '1.9 s' FROM sync.rereads")


async def test_notifications_are_read_before_open_orders_have_their_turn(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 60)
    await hints.begin_rereads(round_s=3600)
    await connection.execute("UPDATE sync.rereads SET due_at = now()")
    await hints.take_turns(round_s=3600)
    await tell(hints, 1, ("orders", "999999"), ("orders", "000007"))
    read = await due(hints)
    assert {h.key for h in read[:2]} == {"999999", "000007"}
    assert len(read) == 51


async def test_shops_have_their_places_anywhere_in_the_round(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    for number in range(200):
        await add_shop(connection, f"shop {number}")
    await hints.begin_rereads(round_s=1000)
    first, last = await connection.fetchrow(
        "SELECT extract(epoch FROM min(due_at) - now()), extract(epoch FROM max(due_at) - now())"
        " FROM sync.rereads"
    )
    assert first < 200
    assert last > 800
    # A shorter round keeps nobody waiting for the end of the longer one.
    await hints.begin_rereads(round_s=10)
    assert await connection.fetchval("SELECT max(due_at - now()) <= interval '10 s' FROM sync.rereads")
    assert await connection.fetchval("SELECT count(*) FROM sync.rereads") == 201


async def test_old_notifications_and_hints_that_nobody_reads_are_forgotten(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await tell(hints, 1, ("orders", "7"))
    await tell(hints, 2, ("orders", "8"))
    await connection.execute(
        "UPDATE sync.notifications SET received_at = now() - interval '4 days' WHERE notification_id = 'n1'"
    )
    await connection.execute("UPDATE sync.hints SET due_at = now() - interval '2 days' WHERE key = '7'")
    assert await hints.forget() == 1
    assert [h.key for h in await due(hints)] == ["8"]
    assert await tell(hints, 2, ("orders", "8")) == "duplicate"


async def test_what_the_slow_round_costs_is_told_for_each_shop(
    hints: Hints, connection: asyncpg.Connection
) -> None:
    await add_orders(connection, 120)
    await add_orders(connection, 7, status="COMPLETED", first=1000)
    await tell(hints, 1, ("orders", "7"))
    (cost,) = await hints.costs()
    assert (cost.open_orders, cost.hints_waiting, cost.last_reread_round_s) == (120, 1, None)
    assert tell_cost(cost, round_s=21_600) == (
        "120 open orders, read again every 6 h: 0.5 requests/h; 1 changes wait to be read"
    )
    assert tell_cost(cost, round_s=0).startswith("120 open orders, not read again;")


def test_the_cost_of_the_slow_round_is_bounded() -> None:
    assert reread_requests_per_hour(0, round_s=3600) == 0
    assert reread_requests_per_hour(10, round_s=0) == 0
    assert reread_requests_per_hour(101, round_s=3600) == 3
    assert reread_requests_per_hour(10**7, round_s=3600) == 1800


_ARGUMENTS = {
    "hear_notifications": (
        "text[], text[], text[], bigint[], text[], text[], timestamptz[]",
        "'{n}', '{s}', '{a}', '{1}', '{orders}', '{7}', '{now}'",
    ),
    "due_hints": ("text, text[], bigint", "'s', '{orders}', 500"),
    "settle_hints": ("text, text[], text[], bigint[]", "'s', '{orders}', '{7}', '{1}'"),
    "postpone_hints": (
        "text, text[], text[], bigint[], float8, integer", "'s', '{orders}', '{7}', '{1}', 2, 5",
    ),
    "drop_hints": ("text", "'s'"),
    "hinted_shops": ("", ""),
    "wanted_shops": ("text[]", "'{s}'"),
    "want_lease": ("text", "'s'"),
    "take_turns": ("float8, bigint, bigint, float8", "3600, 50, 20, 2"),
    "forget_notifications": ("integer", "3, 1000"),
}  # fmt: skip


_MANY = """
INSERT INTO sync.notifications SELECT 'n' || n, now() - interval '4 days' * n / 20000
  FROM generate_series(1, 20000) AS n;
INSERT INTO sync.hints (shop_id, stream, key, source) SELECT 's', 'orders', n::text, 'notification'
  FROM generate_series(1, 20000) AS n;
INSERT INTO sync.cursors (shop_id, stream) SELECT n::text, 'orders' FROM generate_series(1, 2000) AS n;
INSERT INTO sync.rereads (shop_id, due_at) SELECT n::text, now() + n * interval '1 s'
  FROM generate_series(1, 2000) AS n;
ANALYZE sync.notifications, sync.hints, sync.cursors, sync.rereads;
"""


@pytest.mark.parametrize("filled_with", ["", _MANY], ids=["empty", "filled"])
@pytest.mark.parametrize("name", _ARGUMENTS)
async def test_whatever_is_looked_up_is_found_by_an_index(
    name: str, filled_with: str, database_url: str, connection: asyncpg.Connection
) -> None:
    if filled_with:
        await connection.execute(filled_with)
    types, values = _ARGUMENTS[name]
    types = "integer, bigint" if name == "forget_notifications" else types
    async with Database(database_url, size=1) as database, database.connection() as ours:
        listed, given = (f"({types})", f"({values})") if types else ("", "")
        await ours.execute(f"PREPARE kept {listed} AS {query(name)}")
        plan = json.loads(await ours.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept{given}"))
    nodes = list(_nodes(plan[0]["Plan"]))
    assert any("Index" in node["Node Type"] for node in nodes)
    assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
    whole = [
        n
        for n in nodes
        if n["Node Type"].startswith("Index") and not {"Index Cond", "Recheck Cond"} & n.keys()
    ]
    assert [(n["Index Name"], n.get("Filter")) for n in whole] == []


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
