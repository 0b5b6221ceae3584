"""Records that are stored as they are: recognised by their digest, not sent, not touched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from sync.errors import FencedOutError
from sync.model import Record
from sync.store.leases import Lease, LeaseKeeper
from sync.store.page_writer import Target
from sync.store.sink import Sink
from tests.integration.store_probe import ORDERS, PRODUCTS, closing, counts, hold, order, page, product

ROWS = [order(str(n)) for n in range(10)]
# A digest alone decides: whoever compared the rest would find another content here.
FALSIFY = "UPDATE tiktok.orders SET _raw = '{}'"


async def familiarise(sink: Sink, lease: Lease, rows: list[dict[str, Any]], target: Target = ORDERS) -> None:
    """The rows are stored, and were seen once more."""
    await sink.write(target, page(rows), lease=lease)
    tally = await sink.write(target, page(rows, fetched=1), lease=lease)
    assert counts(tally) == {"unchanged": len(rows)}


async def versions(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT order_id, xmin, _raw FROM tiktok.orders ORDER BY order_id"))


async def test_a_page_that_is_known_as_a_whole_is_only_read_about(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    async with connection.transaction():
        # Beside this lock nothing goes but plain reading.
        await connection.execute(
            "LOCK TABLE sync.leases, sync.rejects, tiktok.orders, tiktok.order_line_items IN EXCLUSIVE MODE"
        )
        async with asyncio.timeout(8):
            tally = await sink.write(ORDERS, page(ROWS, fetched=2), lease=lease)
    assert counts(tally) == {"unchanged": 10}
    assert tally.fetched == 10


async def test_of_a_page_that_is_known_in_part_only_the_rest_is_sent(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    await connection.execute(FALSIFY)
    before = await versions(connection)
    rows = [order("0", updated=5), *ROWS[1:], order("new")]
    tally = await sink.write(ORDERS, page(rows, fetched=9), lease=lease)
    assert counts(tally) == {"inserted": 1, "updated": 1, "unchanged": 9}
    assert [row for row in await versions(connection) if row["order_id"] not in ("0", "new")] == before[1:]


async def test_a_row_without_a_digest_is_compared_whole_and_not_touched(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    await connection.execute("UPDATE tiktok.orders SET _digest = NULL")
    before = await versions(connection)
    tally = await sink.write(ORDERS, page(ROWS, fetched=9), lease=lease)
    assert counts(tally) == {"unchanged": 10}
    assert await versions(connection) == before


async def test_the_same_content_in_other_bytes_is_unchanged(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    before = await versions(connection)
    turned = [dict(reversed(row.items())) for row in ROWS]
    tally = await sink.write(ORDERS, page(turned, fetched=9), lease=lease)
    assert counts(tally) == {"unchanged": 10}
    assert await versions(connection) == before


@pytest.mark.parametrize(("other", "outcome"), [(9, "updated"), (3, "unchanged")])
@pytest.mark.parametrize("is_known_first", [True, False])
async def test_of_two_versions_in_one_page_the_newer_counts_even_if_one_is_known(
    sink: Sink,
    lease: Lease,
    connection: asyncpg.Connection,
    other: int,
    outcome: str,
    is_known_first: bool,
) -> None:
    known = order("1", updated=5)
    await familiarise(sink, lease, [known])
    pair = [known, order("1", updated=other)]
    tally = await sink.write(ORDERS, page(pair if is_known_first else pair[::-1], fetched=9), lease=lease)
    assert counts(tally) == {outcome: 1}
    newest = max(pair, key=lambda row: row["update_time"])
    assert json.loads(await connection.fetchval("SELECT _raw FROM tiktok.orders")) == newest


async def test_a_row_whose_values_did_not_all_fit_is_never_known(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    bad = order("bad", payment={"currency": "GBP", "total_amount": "a lot"})
    await sink.write(ORDERS, page([*ROWS, bad], fetched=5), lease=lease)
    digests = dict(await connection.fetch("SELECT order_id, _digest FROM tiktok.orders"))
    assert digests.pop("bad") is None
    assert all(digests.values())


async def test_a_known_record_forgives_the_reject_of_a_version_that_is_gone(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    deep = b'{"id":"1","update_time":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    tally = await sink.write(ORDERS, page([*ROWS, Record(key="1", raw=deep)], fetched=5), lease=lease)
    assert tally.rejected == 1
    assert await connection.fetchval("SELECT array_agg(record_id) FROM sync.rejects") == ["1"]
    await sink.write(ORDERS, page(ROWS, fetched=9), lease=lease)
    assert await connection.fetchval("SELECT count(*) FROM sync.rejects") == 0


async def test_who_lost_the_lease_is_told_even_if_there_is_nothing_to_store(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    await connection.execute("UPDATE sync.leases SET epoch = epoch + 1")
    with pytest.raises(FencedOutError):
        await sink.write(ORDERS, page(ROWS, fetched=9), lease=lease)
    assert lease.lost.is_set()


async def test_a_known_page_closes_its_slice(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    await sink.write(ORDERS, page(ROWS, fetched=9), lease=lease, closing=closing(0, 10))
    row = await connection.fetchrow("SELECT fetched, unchanged FROM sync.slices")
    assert tuple(row) == (10, 10)


async def test_what_is_known_is_looked_up_only_where_the_last_page_was_mostly_known(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    await sink.write(ORDERS, page(ROWS), lease=lease)
    await connection.execute(FALSIFY)
    # A page of nothing but new orders came before: no look, so the whole content is compared.
    assert counts(await sink.write(ORDERS, page(ROWS, fetched=1), lease=lease)) == {"updated": 10}
    assert counts(await sink.write(ORDERS, page(ROWS, fetched=2), lease=lease)) == {"unchanged": 10}
    await connection.execute(FALSIFY)
    assert counts(await sink.write(ORDERS, page(ROWS, fetched=3), lease=lease)) == {"unchanged": 10}


async def test_the_stream_of_another_shop_is_not_known(
    sink: Sink, lease: Lease, database_url: str, connection: asyncpg.Connection
) -> None:
    await familiarise(sink, lease, ROWS)
    async with LeaseKeeper(database_url) as keeper:
        other = await hold(keeper, "7000714532876273421")
        assert counts(await sink.write(ORDERS, page(ROWS), lease=other)) == {"inserted": 10}
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders") == 20


async def test_a_known_product_that_is_deleted_stays_deleted_as_it_was(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    rows = [product("1", status="DELETED"), product("2")]
    await familiarise(sink, lease, rows, PRODUCTS)
    state = "SELECT product_id, xmin, _deleted_at FROM tiktok.products ORDER BY product_id"
    before = await connection.fetch(state)
    await connection.execute("UPDATE tiktok.products SET _raw = '{}' WHERE product_id = '2'")
    tally = await sink.write(PRODUCTS, page(rows, fetched=9), lease=lease)
    assert counts(tally) == {"unchanged": 2}
    after = await connection.fetch(state)
    assert after[0] == before[0]
    assert [row["_deleted_at"] is None for row in after] == [False, True]
