"""Hazards of a busy shop: its pages against its lease, its new connections against the limit."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from sync.clock import ApiClock
from sync.store.leases import Lease, LeaseKeeper
from sync.store.queries import query
from sync.tiktok.client import Access, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer
from tests.integration.hazards import wait_until_true
from tests.integration.raw_server import Seen, Writer, reply, server
from tests.integration.store_probe import SHOP, hold
from tests.integration.test_limiter import JITTER_S, Stalls, most_in_a_second

_CONNECT_S = 0.25
_ANSWER_S = 0.35

_BOTH_HAVE_ASKED = (
    "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'shopsync leases' AND query LIKE '%WITH wanted AS%'"
)


@asynccontextmanager
async def pages_under_way(url: str, lease: Lease) -> AsyncIterator[list[int]]:
    """Transactions of pages that hold the lease, each begun before the one before it ends."""
    written = [0]
    stop = asyncio.Event()

    async def write() -> None:
        connections = [await asyncpg.connect(url) for _ in range(4)]
        under_way: list[Any] = []
        try:
            under_way += [await _begin_page(connection, lease) for connection in connections[1:]]
            while not stop.is_set():
                turn = written[0] % len(connections)
                under_way.append(await _begin_page(connections[turn], lease))
                await under_way.pop(0).commit()
                written[0] += 1
        finally:
            for connection in connections:
                await connection.close()

    writing = asyncio.create_task(write())
    try:
        yield written
    finally:
        stop.set()
        await writing


async def _begin_page(connection: asyncpg.Connection, lease: Lease) -> Any:
    transaction = connection.transaction()
    await transaction.start()
    assert await connection.fetchval(query("hold_lease"), lease.shop_id, lease.owner, lease.epoch) == 1
    return transaction


async def test_the_pages_of_a_busy_shop_never_keep_its_lease_from_being_renewed(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.store.leases._RENEW_EVERY_S", 0.5)
    expiry = "SELECT expires_at FROM sync.leases WHERE shop_id = $1"
    async with LeaseKeeper(database_url) as keeper:
        lease = await hold(keeper)
        async with pages_under_way(database_url, lease) as written:
            for _ in range(3):
                before = await connection.fetchval(expiry, SHOP)
                moved = "SELECT expires_at > $2 FROM sync.leases WHERE shop_id = $1"
                await asyncio.wait_for(wait_until_true(connection, moved, SHOP, before), 5)
        assert not lease.lost.is_set()
    assert written[0] > 10


async def test_taking_a_lease_over_waits_for_the_page_that_is_under_way(
    database_url: str, connection: asyncpg.Connection
) -> None:
    writer = await asyncpg.connect(database_url)
    async with LeaseKeeper(database_url) as slow, LeaseKeeper(database_url) as late:
        lease = await hold(slow)
        under_way = await _begin_page(writer, lease)
        # Nobody's page may stand in the way of a mere change of the time, or this would wait for ever.
        late_by_a_second = "UPDATE sync.leases SET expires_at = now() - interval '1 second'"
        await connection.execute(late_by_a_second, timeout=5)
        taking = asyncio.create_task(late.acquire(SHOP))
        await wait_until_true(connection, _BOTH_HAVE_ASKED)
        assert not taking.done()
        await under_way.commit()
        taken = await taking
        assert taken is not None
        assert (taken.epoch, taken.taken_over) == (lease.epoch + 1, True)
    await writer.close()


async def test_connections_that_take_long_to_make_do_not_bunch_requests_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names, TCP and TLS to another continent: new connections take a while, old ones nothing."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    arrivals: list[float] = []
    made = 0

    async def connect_slowly(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        await asyncio.sleep(_CONNECT_S)
        return await connect(*arguments, **options)

    async def answer(_: Seen, writer: Writer) -> None:
        arrivals.append(time.monotonic())
        await asyncio.sleep(_ANSWER_S)
        writer.write(reply())

    monkeypatch.setattr(loop, "create_connection", connect_slowly)
    pacer, stalls = Pacer(50), Stalls()
    watch = asyncio.create_task(stalls.watch())
    access = Access(AppKeys("key", "secret"), token="token")
    async with (
        server(answer) as (url, _),
        Client(api_url=url, auth_url=url, clock=ApiClock()) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(170):
            await pacer.wait_until_idle()
            group.create_task(client.send(Call("GET", "/x"), access, pacer=pacer))
            await asyncio.sleep(1 / pacer.rate)
    watch.cancel()
    assert len(arrivals) == 170
    assert 10 < made < 170, "the requests should use connections both new and old"
    tolerated = math.ceil(max(0.0, stalls.worst_s - JITTER_S) * 50)
    assert most_in_a_second(arrivals) <= 50 + tolerated
