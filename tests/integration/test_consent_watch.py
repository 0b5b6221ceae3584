"""Consents that end soon are spoken of once a day, and a new one wakes what waited for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from sync.app import App
from sync.engine.consent_watch import ConsentWatch
from sync.simulator.server import RunningSimulator
from tests.conftest import StartSimulator
from tests.support import connected_app, make_settings


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(shops=3, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)


@pytest.fixture
async def app(simulator: RunningSimulator, database_url: str) -> AsyncIterator[App]:
    async with connected_app(make_settings(database_url, simulator), simulator) as opened:
        yield opened


async def warned_of(app: App) -> list[int]:
    """The credentials that a look speaks of."""
    with capture_logs() as logged:
        await ConsentWatch(app.store.credentials).look()
    return [event["credential_id"] for event in logged if event["event"] == "consent_ends_soon"]


async def test_a_consent_that_ends_soon_is_spoken_of_once_a_day(
    app: App, connection: asyncpg.Connection
) -> None:
    assert await warned_of(app) == []
    await connection.execute(
        "UPDATE sync.credentials SET refresh_expires_at = now() + interval '29 days' WHERE credential_id = 1"
    )
    assert await warned_of(app) == [1]
    assert await warned_of(app) == []
    await connection.execute("UPDATE sync.credentials SET warned_at = now() - interval '1 day'")
    assert await warned_of(app) == [1]


async def test_two_daemons_speak_of_it_once(app: App, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE sync.credentials SET refresh_expires_at = now() + interval '1 day'")
    notes = await asyncio.gather(*(app.store.credentials.note_ending() for _ in range(4)))
    ids = [consent.credential_id for note in notes for consent in note]
    assert sorted(ids) == sorted(set(ids))
    consent = next(consent for note in notes for consent in note)
    assert consent.shop_ids


async def test_a_look_ends_with_the_daemon(app: App) -> None:
    stopping = asyncio.Event()
    watch = asyncio.create_task(ConsentWatch(app.store.credentials).run(stopping))
    stopping.set()
    await asyncio.wait_for(watch, 10)


async def test_a_reconnect_unparks_what_was_parked(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    shop_id = await connection.fetchval("SELECT shop_id FROM sync.shops WHERE credential_id = 1 LIMIT 1")
    cursors = app.store.cursors
    await cursors.note_failure(shop_id, "orders", error="no scope", due_in_s=3600, parked_reason="no scope")
    (seller, *_) = simulator.simulation.accounts.consents
    await app.onboarding.connect(simulator.simulation.accounts.issue_code(seller), app="default")
    row = await connection.fetchrow(
        "SELECT parked_reason, last_error, failures, due_at <= now() FROM sync.cursors"
        " WHERE shop_id = $1 AND stream = 'orders'",
        shop_id,
    )
    assert row is not None
    assert tuple(row) == (None, None, 0, True)
