"""The client against the simulator's faults: what it waits for, what it learns, what it gives up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from sync.clock import ApiClock
from sync.errors import (
    AppError,
    ClockSkewError,
    RateLimitedError,
    RequestError,
    ScopeError,
    ShopError,
    StreamError,
    SyncError,
    TokenError,
)
from sync.simulator.server import RunningSimulator
from sync.tiktok import client as client_module
from sync.tiktok.client import Access, Answer, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import exchange_code, list_shops
from tests.conftest import StartSimulator

CALL = Call("GET", "/logistics/202309/warehouses")


class Caller:
    """A client with access to one shop of a simulator."""

    def __init__(self, simulator: RunningSimulator, client: Client, access: Access) -> None:
        self.simulator = simulator
        self.client = client
        self.access = access
        self.pacer = Pacer(1000)

    async def call(self) -> Answer:
        return await self.client.send(CALL, self.access, pacer=self.pacer)

    def add_fault(self, name: str, **params: object) -> None:
        self.simulator.simulation.faults.add({"fault": name, **params})

    @property
    def requests(self) -> int:
        return self.simulator.simulation.meter.of(self.access.shop_id).requests


@pytest.fixture
async def caller(start_simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Caller]:
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.005)
    simulator = await start_simulator(orders_per_shop=3, products_per_shop=2, flash_sale_orders=0)
    options = simulator.options
    keys = AppKeys(app_key=options.app_key, app_secret=options.app_secret)
    async with Client(api_url=simulator.url, auth_url=simulator.url, clock=ApiClock()) as client:
        tokens = await exchange_code(client, keys, simulator.sellers()[0].code)
        (shop, *_) = await list_shops(client, keys, tokens.access_token, pacer=Pacer(1000))
        access = Access(keys=keys, token=tokens.access_token, cipher=shop.cipher, shop_id=shop.shop_id)
        yield Caller(simulator, client, access)


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("internal_error", {"http": 200}),
        ("internal_error", {"http": 500}),
        ("unavailable_html", {"http": 502}),
        ("unavailable_html", {"http": 503}),
        ("unavailable_html", {"http": 504}),
        ("empty_body", {"http": 200}),
        ("empty_body", {"http": 204}),
        ("html_200", {}),
        ("not_an_object", {}),
        ("not_an_object", {"text": "17"}),
        ("truncated_body", {"share": 0.9}),
        ("reset_mid_body", {}),
        ("rate_limited", {"http": 429, "retry_after": 0}),
        ("rate_limited", {"http": 200, "retry_after": 0}),
    ],
)
async def test_a_fault_that_passes_is_outlasted(
    caller: Caller, fault: str, params: dict[str, object]
) -> None:
    caller.add_fault(fault, times=3, **params)
    answer = await caller.call()
    assert answer.attempts == caller.requests == 4
    assert msgspec.json.decode(answer.data)["warehouses"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("expired_token", TokenError),
        ("revoked", TokenError),
        ("scope_missing", ScopeError),
        ("shop_inactive", ShopError),
        ("bad_signature", AppError),
        ("ip_denied", AppError),
        ("redirect", AppError),
        ("retired_version", StreamError),
        ("hourly_cap", StreamError),
    ],
)
async def test_a_refusal_that_no_repetition_helps_is_asked_once(
    caller: Caller, fault: str, expected: type[SyncError]
) -> None:
    caller.add_fault(fault)
    with pytest.raises(expected):
        await caller.call()
    assert caller.requests == 1


async def test_a_fault_that_stays_is_given_up_after_some_attempts(caller: Caller) -> None:
    caller.add_fault("internal_error")
    with pytest.raises(RequestError, match="36009003"):
        await caller.call()
    assert 3 <= caller.requests <= 10


@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/octet-stream"])
async def test_a_good_body_is_read_under_any_content_type(caller: Caller, content_type: str) -> None:
    caller.add_fault("wrong_content_type", content_type=content_type)
    assert (await caller.call()).attempts == 1


# A date is cut to whole seconds.
@pytest.mark.parametrize(("form", "wish_s", "least_s"), [("seconds", 1, 1.0), ("date", 2, 1.0)])
async def test_the_server_s_wish_to_wait_is_honoured(
    caller: Caller, form: str, wish_s: int, least_s: float
) -> None:
    caller.add_fault("rate_limited", times=1, retry_after=wish_s, form=form)
    started = time.monotonic()
    answer = await caller.call()
    assert answer.attempts == 2
    assert time.monotonic() - started >= least_s - 0.05


async def test_a_wish_that_makes_no_sense_is_a_short_wait(caller: Caller) -> None:
    caller.add_fault("rate_limited", times=1, retry_after="soon", form="garbage")
    started = time.monotonic()
    assert (await caller.call()).attempts == 2
    assert 0.25 <= time.monotonic() - started <= 5


async def test_the_pacer_is_told_when_what_was_refused_and_what_passed_had_left(caller: Caller) -> None:
    told: list[tuple[str, float]] = []

    class Listening(Pacer):
        def slow_down(self, retry_after_s: float | None, *, left_at: float) -> None:
            told.append(("refused", time.monotonic() - left_at))
            super().slow_down(retry_after_s, left_at=left_at)

        def note_success(self, *, left_at: float) -> None:
            told.append(("passed", time.monotonic() - left_at))
            super().note_success(left_at=left_at)

    caller.simulator.change_options(latency_s=0.2)
    caller.add_fault("rate_limited", times=1)
    caller.pacer = Listening(1000)
    started = time.monotonic()
    await caller.call()
    assert [what for what, _ in told] == ["refused", "passed"]
    # As long ago as the answer took, and no longer: the second left after the pause.
    assert min(ago for _, ago in told) >= 0.2
    assert sum(ago for _, ago in told) <= time.monotonic() - started - 0.25


async def test_a_limited_shop_is_asked_more_slowly_and_its_other_requests_wait_too(caller: Caller) -> None:
    full = caller.pacer.rate
    caller.add_fault("rate_limited", times=1, retry_after=1)
    started = time.monotonic()
    await caller.call()
    assert caller.pacer.rate < full
    await asyncio.gather(*(caller.call() for _ in range(3)))
    assert time.monotonic() - started >= 1
    assert caller.requests == 5


async def test_a_limit_that_stays_is_an_error_that_says_so(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_ATTEMPTS", 3)
    caller.add_fault("rate_limited", retry_after=0)
    with pytest.raises(RateLimitedError, match="36009002"):
        await caller.call()
    assert caller.requests == 3


@pytest.mark.parametrize("seconds", [-3600, -90, 400, 86_400])
async def test_a_wrong_local_clock_is_learnt_from_the_answers(caller: Caller, seconds: int) -> None:
    caller.add_fault("clock_skew", seconds=seconds)
    first = await caller.call()
    assert first.attempts > 1
    assert (await caller.call()).attempts == 1
    assert abs(caller.client.clock.time() - time.time() - seconds) < 3
    assert abs(first.sent_at.timestamp() - time.time() - seconds) < 5


class DeafClock(ApiClock):
    """A clock that learns nothing, as when the server sends no date."""

    def learn(self, *_: object, **__: object) -> None:
        pass


async def test_a_clock_that_cannot_be_learnt_is_named(caller: Caller) -> None:
    caller.client.clock = DeafClock()
    caller.add_fault("clock_skew", seconds=7200)
    with pytest.raises(ClockSkewError, match="clock"):
        await caller.call()
