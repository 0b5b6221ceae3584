"""What a request carries is of the moment at which it leaves, however long it waited for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from sync.app import App
from sync.clock import ApiClock
from sync.engine.api import ShopApi
from sync.errors import FencedOutError, NeedsReauthError, ScopeError
from sync.simulator.server import RunningSimulator
from sync.store.leases import LeaseKeeper
from sync.streams.registry import STREAMS
from sync.tiktok.client import Access, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer
from sync.tiktok.signing import sign_request
from tests.conftest import StartSimulator
from tests.integration.raw_server import GOOD, always, reply, server
from tests.support import connected_app, make_settings

_KEYS = AppKeys(app_key="key1", app_secret="secret1")
_CALL = Call("POST", "/order/202309/orders/search", query={"page_token": "a+/b=="}, body=b'{"a":1}')
_WAREHOUSES = STREAMS["warehouses"]
_TWO_DAYS_S = 2 * 86_400.0


async def test_time_token_and_signature_are_those_of_the_moment_of_leaving() -> None:
    clock, tokens = ApiClock(), ["old"]
    access = Access(keys=_KEYS, token=lambda: tokens[-1], cipher="c", shop_id="7")
    pacer = Pacer(1000)
    async with (
        server(always(reply(GOOD))) as (url, seen),
        Client(api_url=url, auth_url=url, clock=clock) as client,
    ):
        pacer.pause(0.3)
        sending = asyncio.create_task(client.send(_CALL, access, pacer=pacer))
        await asyncio.sleep(0)
        tokens.append("new")
        later = time.time() + _TWO_DAYS_S
        moment = time.monotonic()
        for _ in range(2):
            clock.learn(datetime.fromtimestamp(later, UTC), sent=moment, received=moment)
        await sending
    (request,) = seen
    assert request.headers["x-tts-access-token"] == "new"
    assert later - 1 <= int(request.query["timestamp"]) <= later + 60
    signed = {name: value for name, value in request.query.items() if name != "sign"}
    assert signed["page_token"] == "a+/b=="
    assert request.query["sign"] == sign_request(
        _CALL.path, signed, app_secret=_KEYS.app_secret, body=request.body
    )


async def test_the_guard_is_asked_after_the_signature_and_then_nothing_leaves() -> None:
    asked: list[str] = []

    def sign() -> str:
        asked.append("token")
        return "t"

    def refuse() -> None:
        asked.append("guard")
        raise FencedOutError("another process has it")

    async with (
        server(always(reply(GOOD))) as (url, seen),
        Client(api_url=url, auth_url=url, clock=ApiClock()) as client,
    ):
        with pytest.raises(FencedOutError):
            await client.send(_CALL, Access(keys=_KEYS, token=sign), pacer=Pacer(1000), guard=refuse)
    assert asked == ["token", "guard"]
    assert seen == []


@asynccontextmanager
async def shop_api(app: App, database_url: str, pacer: Pacer) -> AsyncIterator[ShopApi]:
    """The API of the first connected shop, as a sync would use it."""
    shop = (await app.store.shops.list())[0].shop
    async with LeaseKeeper(database_url) as leases:
        lease = await leases.acquire(shop.shop_id)
        assert lease is not None
        yield ShopApi(shop, app=app.apps.get(shop.app), tokens=app.tokens, pacer=pacer, lease=lease)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(shops=1, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)


async def test_requests_that_wait_longer_than_a_token_lives_leave_with_a_newer_one(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    life_s, wait_s = 4, 7.0
    simulator.change_options(access_token_life_s=life_s)
    pacer = Pacer(1000)
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        shop_api(app, database_url, pacer) as api,
    ):
        pacer.pause(wait_s)
        pages = await asyncio.gather(*(api.fetch(_WAREHOUSES, None) for _ in range(20)))
        generation = await connection.fetchval("SELECT generation FROM sync.credentials")
    meter = simulator.simulation.meter
    assert {requests for _, requests in pages} == {1}
    assert meter.codes == {}
    # Refreshed at half of a life, which whole seconds make 1.5 to 2 s.
    assert wait_s / life_s <= meter.token_refreshes <= wait_s / 1.5 + 1
    assert generation - 1 == meter.token_refreshes


async def test_tokens_that_die_while_many_requests_wait_are_refreshed_once(
    simulator: RunningSimulator, database_url: str
) -> None:
    pacer = Pacer(1000)
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        shop_api(app, database_url, pacer) as api,
    ):
        pacer.pause(0.2)
        waiting = asyncio.gather(*(api.fetch(_WAREHOUSES, None) for _ in range(20)))
        simulator.simulation.accounts.expire_access_tokens()
        await waiting
    assert simulator.simulation.meter.token_refreshes == 1


async def test_a_token_that_dies_on_the_way_more_than_once_costs_no_consent(
    simulator: RunningSimulator, database_url: str
) -> None:
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        shop_api(app, database_url, Pacer(1000)) as api,
    ):
        simulator.change_options(access_token_life_s=1, latency_s=1.05)
        simulator.simulation.accounts.expire_access_tokens()
        sending = asyncio.create_task(api.fetch(_WAREHOUSES, None))
        async with asyncio.timeout(30):
            while simulator.simulation.meter.codes[105002] < 3:
                await asyncio.sleep(0.01)
        simulator.change_options(access_token_life_s=3600, latency_s=0.0)
        await sending


async def test_a_fresh_token_that_is_refused_too_asks_for_a_consent(
    simulator: RunningSimulator, database_url: str
) -> None:
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        shop_api(app, database_url, Pacer(1000)) as api,
    ):
        simulator.simulation.faults.add({"fault": "expired_token", "path": _WAREHOUSES.path})
        with pytest.raises(NeedsReauthError, match="withdrawn the consent"):
            await api.fetch(_WAREHOUSES, None)
    assert simulator.simulation.meter.token_refreshes == 1


async def test_a_missing_scope_is_named_with_what_to_do(
    simulator: RunningSimulator, database_url: str
) -> None:
    (consent,) = simulator.simulation.accounts.consents.values()
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        shop_api(app, database_url, Pacer(1000)) as api,
    ):
        consent.scopes -= {_WAREHOUSES.scope}
        with pytest.raises(ScopeError, match=f"{_WAREHOUSES.scope}.*Manage API.*consent again"):
            await api.fetch(_WAREHOUSES, None)
