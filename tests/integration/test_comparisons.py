"""Shops are compared in the background, without standing in anybody's way."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.app import App
from sync.engine.comparison_io import ComparisonIO
from sync.engine.requests import VERIFY, SyncRequest, Verify
from sync.jobs import comparisons
from sync.jobs.comparisons import Comparisons
from sync.model import Page
from sync.simulator.server import RunningSimulator
from sync.streams.base import Body, Stream
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.integration.hazards import sync_all, wait_until_true
from tests.integration.notified import quiet_settings, telling_daemon
from tests.integration.verified import the_shop, verify
from tests.oracle import compare

pytest_plugins = ("tests.integration.verified_fixtures",)
_STREAMS = tuple(STREAMS)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(orders_per_shop=3000, products_per_shop=10)


async def test_the_daemon_finds_and_repairs_what_is_missing_by_itself(
    simulator: RunningSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparisons, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(comparisons, "_ENSURE_EVERY_S", 0.1)
    settings = quiet_settings(database_url, simulator, verify_every_s=86_400, lookback_s=1)
    async with telling_daemon(settings, simulator):
        compared = "SELECT count(*) = 4 FROM sync.proofs WHERE verdict = 'complete'"
        await wait_until_true(connection, compared)
        await connection.execute(
            "DELETE FROM tiktok.orders WHERE order_id = (SELECT min(order_id) FROM tiktok.orders)"
        )
        await connection.execute("UPDATE sync.proofs SET due_at = now() WHERE stream = 'orders'")
        await wait_until_true(
            connection, "SELECT verdict = 'repaired' FROM sync.proofs WHERE stream = 'orders'"
        )
    assert await compare(connection, simulator.url, simulator.world.shops) == []
    assert await connection.fetchval("SELECT bool_and(due_at > now() + interval '23 hours') FROM sync.proofs")


async def test_a_round_ends_a_comparison_in_the_background_which_goes_on_later(
    app: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync_all(app)
    shop_id = await the_shop(app)
    fetch, asked, may_answer = ComparisonIO.fetch, asyncio.Event(), asyncio.Event()
    requests = 0

    async def fetch_slowly(
        self: ComparisonIO, stream: Stream, body: Body | None, token: str | None = None
    ) -> Page:
        nonlocal requests
        page = await fetch(self, stream, body, token)
        requests += 1
        if requests == 2:
            asked.set()
            await may_answer.wait()
        return page

    monkeypatch.setattr(ComparisonIO, "fetch", fetch_slowly)
    wish = Verify(("orders",), anew=False, in_background=True)
    comparison = asyncio.create_task(app.fleet.sync(SyncRequest(shop_id, (), reason=VERIFY, verify=wish)))
    await asked.wait()
    round_ = asyncio.create_task(sync_all(app))
    await asyncio.sleep(0)
    may_answer.set()
    (report,) = await round_
    assert report.outcome == "complete"
    cut = await comparison
    assert cut.outcome == "busy"
    assert [(proof.verdict, "cut short" in (proof.reason or "")) for proof in cut.proofs] == [(None, True)]
    proven = await connection.fetchval("SELECT proven FROM sync.proofs")
    assert proven
    before = requests
    request = SyncRequest(shop_id, (), reason=VERIFY, verify=wish)
    (proof,) = (await app.fleet.sync(request)).proofs
    assert (proof.verdict, proof.api_rows, proof.stored_rows) == ("complete", 3000, 3000)
    assert requests - before < proof.requests


async def test_what_cannot_be_compared_stands_in_nobody_s_way(
    app: App, connection: asyncpg.Connection
) -> None:
    await sync_all(app)
    await app.store.proofs.ensure(_STREAMS)
    await connection.execute("UPDATE sync.proofs SET due_at = now() - interval '1 day'")
    await connection.execute("UPDATE sync.shops SET state = 'paused'")
    proofs = app.store.proofs
    assert await proofs.take_due(_STREAMS, at_most=2, again_in_s=300) == []
    assert await connection.fetchval("SELECT min(due_at) > now() + interval '4 minutes' FROM sync.proofs")
    await connection.execute("UPDATE sync.shops SET state = 'active'")
    await connection.execute("UPDATE sync.proofs SET due_at = now()")
    await connection.execute("UPDATE sync.cursors SET parked_reason = 'no scope' WHERE stream = 'products'")
    assert await proofs.take_due(_STREAMS, at_most=2, again_in_s=300) == [
        (await the_shop(app), ("orders", "inventory", "warehouses"))
    ]
    assert await proofs.take_due(_STREAMS, at_most=2, again_in_s=300) == []


async def test_a_comparison_that_is_switched_off_never_begins(app: App) -> None:
    await sync_all(app)
    off = Comparisons(fleet=app.fleet, proofs=app.store.proofs, streams=_STREAMS, every_s=0)
    await off.look()
    assert list(off.close()) == []


async def test_a_missing_scope_costs_its_stream_only(app: App, simulator: RunningSimulator) -> None:
    await sync_all(app)
    simulator.simulation.faults.add({"fault": "scope_missing", "path": "/orders/search"})
    report = await verify(app)
    verdicts = {proof.stream: proof.verdict for proof in report.proofs}
    assert verdicts == {
        "orders": None,
        "products": "complete",
        "inventory": "complete",
        "warehouses": "complete",
    }
    assert "seller.order.info" in (report.proofs[0].reason or "")
