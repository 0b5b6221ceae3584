"""From a consent to connected shops: once, all of them, and nothing of before lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from sync.app import App, open_app
from sync.engine.onboarding import Attempt, missing_scopes
from sync.errors import AppError, ConsentError, DatabaseError, RequestError, SettingsError
from sync.settings import App as AppSettings
from sync.settings import Settings
from sync.simulator.server import RunningSimulator
from sync.store.pool import Database
from sync.store.queries import query
from tests.conftest import StartSimulator
from tests.consent_probe import consent_settings, state_of
from tests.integration.hazards import sync_all

LOCAL, CROSS_BORDER = 0, 1
_STATES = "SELECT state FROM sync.shops ORDER BY shop_id"


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    """A seller of one shop, and one of two."""
    return await start_simulator(shops=3, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)


@pytest.fixture
async def app(simulator: RunningSimulator, database_url: str) -> AsyncIterator[App]:
    async with open_app(consent_settings(database_url, simulator)) as opened:
        yield opened


def code_of(simulator: RunningSimulator, place: int = LOCAL) -> str:
    accounts = simulator.simulation.accounts
    return accounts.issue_code(list(accounts.consents)[place])


def two_apps(database_url: str, simulator: RunningSimulator) -> Settings:
    """Two names for the simulator's only app."""
    options = simulator.options
    second = AppSettings(app_key=options.app_key, app_secret=SecretStr(options.app_secret))
    return consent_settings(database_url, simulator).model_copy(update={"apps": {"second": second}})


async def states(connection: asyncpg.Connection) -> list[str]:
    return [row["state"] for row in await connection.fetch(_STATES)]


async def test_a_state_is_stored_as_its_digest_only(app: App, connection: asyncpg.Connection) -> None:
    begun = await app.onboarding.begin("default")
    state = state_of(begun.link)
    row = await connection.fetchrow("SELECT *, expires_at - created_at AS life FROM sync.consents")
    assert row["state_digest"] == hashlib.sha256(state.encode()).digest() == begun.digest
    assert state not in str(dict(row))
    assert row["life"].total_seconds() == 3600
    assert state_of((await app.onboarding.begin("default")).link) != state


async def test_of_two_who_bring_the_same_state_at_once_one_wins(
    app: App, simulator: RunningSimulator, database_url: str
) -> None:
    state = state_of((await app.onboarding.begin("default")).link)
    async with open_app(app.settings) as other:
        outcomes = await asyncio.gather(
            *(one.onboarding.accept(state, f"code-number-{n}") for n in range(5) for one in (app, other)),
            return_exceptions=True,
        )
    won = [outcome for outcome in outcomes if isinstance(outcome, Attempt)]
    lost = [outcome.why for outcome in outcomes if isinstance(outcome, ConsentError)]
    assert (len(won), lost) == (1, ["used"] * 9)


async def test_a_state_of_yesterday_is_too_old(app: App, connection: asyncpg.Connection) -> None:
    state = state_of((await app.onboarding.begin("default")).link)
    await connection.execute("UPDATE sync.consents SET expires_at = now()")
    with pytest.raises(ConsentError) as refused:
        await app.onboarding.accept(state, "a-code-of-some-length")
    assert refused.value.why == "expired"


@pytest.mark.parametrize("state", ["x" * 43, "", "x", "\x00" * 43, "é" * 43, "\ud800" * 43], ids=ascii)
async def test_a_state_that_nobody_made_is_unknown(app: App, state: str) -> None:
    with pytest.raises(ConsentError) as refused:
        await app.onboarding.accept(state, "a-code-of-some-length")
    assert refused.value.why == "unknown"


async def test_old_consents_are_forgotten(app: App, connection: asyncpg.Connection) -> None:
    await app.onboarding.begin("default")
    await connection.execute("UPDATE sync.consents SET expires_at = now() - interval '25 hours'")
    begun = await app.onboarding.begin("default")
    assert await connection.fetchval("SELECT array_agg(state_digest) FROM sync.consents") == [begun.digest]


async def test_whoever_waits_hears_of_the_shops(app: App, simulator: RunningSimulator) -> None:
    begun = await app.onboarding.begin("default")
    async with open_app(app.settings) as other:
        attempt = await other.onboarding.accept(state_of(begun.link), code_of(simulator, CROSS_BORDER))
        connected = await other.onboarding.finish(attempt)
    consent = await app.onboarding.read(begun)
    assert consent is not None
    assert (consent.outcome, len(consent.shop_ids)) == ("connected", 2)
    assert sorted(consent.shop_ids) == sorted(shop.shop_id for shop in connected.shops)


async def test_whoever_waits_hears_of_a_code_that_is_not_accepted(app: App) -> None:
    begun = await app.onboarding.begin("default")
    attempt = await app.onboarding.accept(state_of(begun.link), "ROW_canary_code")
    with pytest.raises(ConsentError) as refused:
        await app.onboarding.finish(attempt)
    consent = await app.onboarding.read(begun)
    assert consent is not None
    assert (refused.value.why, consent.outcome) == ("code", "failed")
    assert "works once" in (consent.message or "")
    assert "canary" not in f"{consent} {refused.value}"


async def test_an_answer_of_another_app_spends_no_code(app: App, simulator: RunningSimulator) -> None:
    state = state_of((await app.onboarding.begin("default")).link)
    with pytest.raises(ConsentError) as refused:
        await app.onboarding.accept(state, code_of(simulator), app_key="another")
    assert refused.value.why == "mixed_up"
    assert simulator.simulation.meter.token_gets == 0


async def test_a_second_consent_loses_nothing(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    await sync_all(app)
    covered = (
        "SELECT array_agg((shop_id, stream, covered, settled)::text ORDER BY shop_id, stream)"
        " FROM sync.cursors"
    )
    before = await connection.fetchval(covered)
    first, second = [row.shop.shop_id for row in await app.store.shops.list()]
    await app.store.shops.pause(first)
    await app.store.shops.note_state(second, "needs_reauth", reason="dead")
    await connection.execute("UPDATE sync.shops SET cipher = 'old'")
    await connection.execute("UPDATE sync.credentials SET granted_scopes = '{}', needs_reauth = 'dead'")

    connected = await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")

    rows = {row.shop.shop_id: row.shop for row in await app.store.shops.list()}
    assert {shop_id: shop.state for shop_id, shop in rows.items()} == {first: "paused", second: "active"}
    assert {shop.shop_id: shop.cipher for shop in connected.shops} == {
        shop_id: shop.cipher for shop_id, shop in rows.items()
    }
    assert "seller.order.info" in rows[first].granted_scopes
    assert await connection.fetchval(covered) == before
    assert await connection.fetchval("SELECT needs_reauth FROM sync.credentials") is None
    assert await connection.fetchval("SELECT max(due_at) <= now() FROM sync.cursors")


async def test_a_shop_that_the_newest_consent_does_not_reach_waits_and_says_so(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    sold, kept = simulator.world.shops_of(list(simulator.simulation.accounts.consents)[CROSS_BORDER])
    simulator.world._by_seller[kept.seller.open_id] = [kept]
    connected = await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    assert connected.connection.unreached == (sold.shop_id,)
    found = await app.store.shops.find(sold.shop_id)
    assert found is not None
    assert found.shop.state == "needs_reauth"
    assert "does not reach this shop any more" in (found.state_reason or "")
    simulator.world._by_seller[kept.seller.open_id] = [sold, kept]
    await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    assert await states(connection) == ["active", "active"]


async def test_an_older_consent_that_arrives_late_changes_nothing(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    simulator.simulation.faults.add({"fault": "slow", "seconds": 1.0, "path": "/authorization", "times": 1})
    late = Attempt("default", code_of(simulator))
    older = asyncio.create_task(app.onboarding.finish(late))
    async with asyncio.timeout(10):
        while late.tokens is None:
            await asyncio.sleep(0.005)
    newer = Attempt("default", code_of(simulator))
    await app.onboarding.finish(newer)
    assert not older.done()
    overtaken = await older
    assert overtaken.connection.is_superseded
    (row,) = await app.store.shops.list()
    stored = await app.store.credentials.read(row.shop.credential_id)
    assert newer.tokens is not None
    assert stored.access_token == newer.tokens.access_token


async def test_tokens_that_were_paid_for_with_the_code_are_not_lost_when_the_rest_fails(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    attempt = Attempt("default", code_of(simulator))
    simulator.simulation.faults.add({"fault": "redirect", "path": "/authorization", "times": 1})
    with pytest.raises(AppError):
        await app.onboarding.finish(attempt)
    await app.onboarding.finish(attempt)
    assert simulator.simulation.meter.token_gets == 1
    assert await states(connection) == ["active"]


async def test_whoever_waits_hears_of_the_shops_in_the_moment_in_which_they_are_connected(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    begun = await app.onboarding.begin("default")
    attempt = await app.onboarding.accept(state_of(begun.link), code_of(simulator))
    await connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no outcome'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE OF outcome ON sync.consents EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(DatabaseError):
        await app.onboarding.finish(attempt)
    assert await states(connection) == []
    await connection.execute("DROP TRIGGER refuse ON sync.consents")
    await app.onboarding.finish(attempt)
    consent = await app.onboarding.read(begun)
    assert consent is not None
    assert consent.outcome == "connected"
    assert await states(connection) == ["active"]


async def test_a_code_is_good_for_another_try_when_tiktok_does_not_answer(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    begun = await app.onboarding.begin("default")
    attempt = await app.onboarding.accept(state_of(begun.link), code_of(simulator))
    simulator.simulation.faults.add({"fault": "unavailable_html", "path": "/token/get"})
    with pytest.raises(RequestError):
        await app.onboarding.finish(attempt)
    consent = await app.onboarding.read(begun)
    assert consent is not None
    assert consent.outcome is None
    simulator.simulation.faults.remove()
    await app.onboarding.finish(attempt)
    assert await states(connection) == ["active"]


async def test_a_seller_who_comes_unasked_is_not_connected_before_somebody_confirms(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    (attempt,) = app.onboarding.attempts(code_of(simulator, CROSS_BORDER))
    assert (await app.onboarding.finish(attempt)).is_waiting
    assert await connection.fetchval("SELECT count(*) FROM tiktok.shops") == 0
    assert await states(connection) == []
    (seller,) = await app.onboarding.waiting()
    assert seller.shops == ("Harbor & Pine (GB)", "Lichtblick Laden (DE)")
    async with open_app(app.settings) as other:
        one, two = await asyncio.gather(app.onboarding.confirm(seller), other.onboarding.confirm(seller))
    assert [one is None, two is None].count(True) == 1
    assert await states(connection) == ["active", "active"]
    assert await app.onboarding.waiting() == []
    assert [report.outcome for report in await sync_all(app)] == ["complete", "complete"]


async def test_a_seller_who_is_sent_away_leaves_no_token_behind(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    (attempt,) = app.onboarding.attempts(code_of(simulator))
    await app.onboarding.finish(attempt)
    (seller,) = await app.onboarding.waiting()
    assert await app.onboarding.send_away(seller)
    assert not await app.onboarding.send_away(seller)
    assert await connection.fetchval("SELECT count(*) FROM sync.credentials") == 0


async def test_a_known_seller_who_comes_unasked_is_connected_anew_without_what_was_let_go(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    connected = await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    gone, kept = [shop.shop_id for shop in connected.shops]
    await app.onboarding.choose(connected, [kept])
    await connection.execute("UPDATE sync.shops SET state = 'needs_reauth' WHERE shop_id = $1", kept)
    (attempt,) = app.onboarding.attempts(code_of(simulator, CROSS_BORDER), app_key=app.settings.app_key)
    again = await app.onboarding.finish(attempt)
    assert dict(again.connection.states) == {gone: "disconnected", kept: "active"}
    asked = await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
    assert dict(asked.connection.states) == {gone: "active", kept: "active"}


async def test_a_consent_that_somebody_here_asked_for_ends_the_wait(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    (attempt,) = app.onboarding.attempts(code_of(simulator))
    await app.onboarding.finish(attempt)
    await app.onboarding.connect(code_of(simulator), app="default")
    assert await app.onboarding.waiting() == []
    assert await states(connection) == ["active"]


async def test_a_shop_moves_to_the_app_that_connected_it_last(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    async with open_app(two_apps(database_url, simulator)) as app:
        await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="default")
        await sync_all(app)
        covered = "SELECT count(*) FROM sync.cursors WHERE covered <> '{}'"
        before = await connection.fetchval(covered)
        await app.onboarding.connect(code_of(simulator, CROSS_BORDER), app="second")
        assert [row.shop.app for row in await app.store.shops.list()] == ["second", "second"]
        assert await connection.fetchval("SELECT array_agg(app) FROM sync.credentials") == ["second"]
        assert await connection.fetchval(covered) == before > 0
        assert [report.outcome for report in await sync_all(app)] == ["complete", "complete"]


async def test_apps_that_connect_the_same_shops_at_once_leave_one_credential(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    async with open_app(two_apps(database_url, simulator)) as app:
        await asyncio.gather(
            *(
                app.onboarding.connect(code_of(simulator, CROSS_BORDER), app=name)
                for name in ("default", "second") * 8
            )
        )
        await sync_all(app)
    assert await states(connection) == ["active", "active"]
    assert await connection.fetchval("SELECT count(DISTINCT credential_id) FROM sync.shops") == 1
    assert await connection.fetchval("SELECT count(*) FROM sync.credentials") == 1


@pytest.mark.parametrize(
    ("name", "types", "values"),
    [
        ("take_consent", "bytea", "''"),
        ("read_consent", "bytea", "''"),
        ("settle_consent", "bytea, text, text, text[]", "'', '', '', '{}'"),
        ("forget_consents", "", ""),
        ("lock_shops", "text[]", "'{a}'"),
        ("is_known_seller", "bigint", "1"),
        ("connect_shop", "text, bigint, text, boolean", "'', 1, '', true"),
        ("part_from_shops", "bigint, text[], text", "1, '{a}', ''"),
        ("forget_spare_credentials", "bigint[]", "'{1}'"),
        ("waiting_sellers", "", ""),
        ("lock_waiting_seller", "bigint", "1"),
        ("send_away", "bigint", "1"),
    ],
)
async def test_no_statement_of_a_consent_reads_a_whole_table(
    database_url: str, name: str, types: str, values: str
) -> None:
    async with Database(database_url, size=1) as database, database.connection() as pooled:
        await pooled.execute(f"PREPARE kept {f'({types})' if types else ''} AS {query(name)}")
        plan = await pooled.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept {f'({values})' if values else ''}")
    assert "Seq Scan" not in plan
    assert '"Sort"' not in plan


async def test_a_consent_without_any_shop_says_with_which_account_to_consent(
    app: App, simulator: RunningSimulator
) -> None:
    simulator.world._by_seller.clear()
    with pytest.raises(ConsentError, match="the account that owns the shop") as refused:
        await app.onboarding.connect(code_of(simulator), app="default")
    assert refused.value.why == "shopless"


async def test_a_consent_that_may_not_list_shops_says_which_scope_to_switch_on(
    app: App, simulator: RunningSimulator
) -> None:
    for consent in simulator.simulation.accounts.consents.values():
        consent.scopes = frozenset({"seller.order.info"})
    with pytest.raises(ConsentError, match=r"seller\.authorization\.info") as refused:
        await app.onboarding.connect(code_of(simulator), app="default")
    assert refused.value.why == "scopeless"


async def test_an_app_that_is_not_configured_begins_nothing(app: App, connection: asyncpg.Connection) -> None:
    with pytest.raises(SettingsError, match="no app is called 'us'"):
        await app.onboarding.begin("us")
    assert await connection.fetchval("SELECT count(*) FROM sync.consents") == 0


def test_missing_scopes_are_named_with_what_is_lost() -> None:
    missing = {found.scope: found.streams for found in missing_scopes(["seller.order.info"])}
    assert missing == {
        "seller.authorization.info": (),
        "seller.product.basic": ("products", "inventory"),
        "seller.logistics": ("warehouses",),
    }
    assert missing_scopes([]) == ()
