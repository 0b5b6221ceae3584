"""Hazards of tokens: consents, refusals and losses that meet each other at the worst moment."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.app import open_app
from sync.errors import NeedsReauthError
from tests.conftest import StartSimulator
from tests.integration.hazards import WAITS_FOR_A_LOCK, sync_all, wait_until_true
from tests.support import connected_app, make_settings

_REFRESH = "/api/v2/token/refresh"
# Half of the access token's life is over, so that it is refreshed; a day of it is left.
_AGE = (
    "UPDATE sync.credentials SET obtained_at = now() - interval '6 days',"
    " access_expires_at = now() + interval '1 day'"
)
_REFRESHES = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'shopsync' AND state = 'idle in transaction')"
)
_CREDENTIAL = "SELECT credential_id FROM sync.credentials"
_SHOP_STATE = "SELECT state FROM sync.shops"


async def test_a_new_consent_reaches_a_process_that_was_told_to_wait_for_it(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    (seller,) = simulator.simulation.accounts.consents
    settings = make_settings(database_url, simulator)
    async with connected_app(settings, simulator) as daemon, open_app(settings) as command:
        # Another process found the tokens dead while a sync of this one was about to begin.
        await connection.execute("UPDATE sync.credentials SET needs_reauth = 'dead'")
        (waiting,) = await sync_all(daemon, streams=("orders",))
        assert waiting.outcome == "failed"
        await command.onboarding.connect(simulator.simulation.accounts.issue_code(seller), app="default")
        (report,) = await sync_all(daemon, streams=("orders",))
    assert (report.outcome, report.problems) == ("complete", [])


async def test_tokens_found_dead_do_not_condemn_the_consent_that_came_meanwhile(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    accounts = simulator.simulation.accounts
    (seller,) = accounts.consents
    settings = make_settings(database_url, simulator)
    async with connected_app(settings, simulator) as daemon, open_app(settings) as command:
        await connection.execute(_AGE)
        accounts.revoke(seller)
        simulator.simulation.faults.add({"fault": "slow", "seconds": 1.0, "path": _REFRESH})
        refused = asyncio.create_task(daemon.tokens.current(await connection.fetchval(_CREDENTIAL)))
        await wait_until_true(connection, _REFRESHES)
        consent = asyncio.create_task(command.onboarding.connect(accounts.issue_code(seller), app="default"))
        await wait_until_true(connection, WAITS_FOR_A_LOCK)
        with pytest.raises(NeedsReauthError):
            await refused
        await consent
        assert await connection.fetchval(_SHOP_STATE) == "active"
        assert await connection.fetchval("SELECT needs_reauth FROM sync.credentials") is None
        (report,) = await sync_all(daemon, streams=("orders",))
    assert (report.outcome, report.problems) == ("complete", [])


async def test_tokens_found_dead_park_every_shop_of_their_own_consent(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    """The other side of the guard: where no consent came, the refusal counts."""
    simulator = await start_simulator()
    (seller,) = simulator.simulation.accounts.consents
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        await connection.execute(_AGE)
        await connection.execute("UPDATE sync.shops SET state = 'inactive'")
        simulator.simulation.accounts.revoke(seller)
        with pytest.raises(NeedsReauthError):
            await app.tokens.current(await connection.fetchval(_CREDENTIAL))
    assert await connection.fetchval(_SHOP_STATE) == "needs_reauth"


async def test_a_pair_that_arrives_after_its_database_connection_was_lost_is_stored(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        credential_id = await connection.fetchval(_CREDENTIAL)
        before = await app.store.credentials.read(credential_id)
        await connection.execute(_AGE)
        simulator.simulation.faults.add({"fault": "slow", "seconds": 0.5, "path": _REFRESH})
        renewing = asyncio.create_task(app.tokens.current(credential_id))
        async with asyncio.timeout(20):
            while not simulator.simulation.meter.token_refreshes:
                await asyncio.sleep(0.005)
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'shopsync' AND datname = current_database()"
        )
        assert ended >= 1
        renewed = await renewing
        stored = await app.store.credentials.read(credential_id)
        # The refresh token of before works no more: only what is stored now can go on.
        (report,) = await sync_all(app, streams=("orders",))
    assert renewed.refresh_token == stored.refresh_token != before.refresh_token
    assert stored.generation == before.generation + 1
    assert report.outcome == "complete"
    assert simulator.simulation.meter.token_refreshes == 1


async def test_a_failing_token_endpoint_is_not_asked_before_each_request(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=600)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        await connection.execute(_AGE)
        rule = simulator.simulation.faults.add({"fault": "unavailable_html", "path": _REFRESH})
        (report,) = await sync_all(app, streams=("orders",))
    assert report.outcome == "complete"
    assert report.tally.requests > 5
    assert rule.struck == 1


async def test_a_failing_token_endpoint_is_asked_again_after_its_rest(
    start_simulator: StartSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync.engine.tokens._COOL_DOWN_S", 0.0)
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        credential_id = await connection.fetchval(_CREDENTIAL)
        await connection.execute(_AGE)
        rule = simulator.simulation.faults.add({"fault": "unavailable_html", "path": _REFRESH, "times": 2})
        old = await app.tokens.current(credential_id)
        assert await app.tokens.current(credential_id) == old
        assert rule.struck == 2
        assert (await app.tokens.current(credential_id)).generation == old.generation + 1


async def test_a_token_that_is_over_is_refreshed_whatever_failed_a_moment_ago(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        credential_id = await connection.fetchval(_CREDENTIAL)
        await connection.execute(_AGE)
        simulator.simulation.faults.add({"fault": "unavailable_html", "path": _REFRESH, "times": 1})
        old = await app.tokens.current(credential_id)
        await connection.execute(
            "UPDATE sync.credentials SET access_expires_at = now() - interval '1 second'"
        )
        app.tokens.forget(credential_id)
        assert (await app.tokens.current(credential_id)).generation == old.generation + 1
