"""Consent links and the answers of the token endpoint."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from aiohttp import web

from sync.clock import ApiClock
from sync.errors import AppError, NeedsReauthError, RequestError, SyncError
from sync.tiktok.client import AppKeys, Client
from sync.tiktok.oauth import consent_url, exchange_code, refresh_tokens

KEYS = AppKeys(app_key="key1", app_secret="canary-secret")
GOOD = {
    "access_token": "canary-access",
    "access_token_expire_in": 1_800_000_000,
    "refresh_token": "canary-refresh",
    "refresh_token_expire_in": 1_900_000_000,
    "open_id": "o1",
    "seller_name": "Seller",
    "seller_base_region": "GB",
    "user_type": 0,
    "granted_scopes": ["seller.order.info"],
}


def test_a_consent_link_carries_the_service_and_the_state_whole() -> None:
    parts = urlsplit(consent_url("74&1", "a b/+=&ü", host="https://services.example/open/authorize"))
    assert parts.scheme == "https"
    assert parse_qs(parts.query, strict_parsing=True) == {"service_id": ["74&1"], "state": ["a b/+=&ü"]}


async def ask(
    reply: Callable[[web.BaseRequest], web.Response], *, code: str | None = None
) -> tuple[object, list[web.BaseRequest]]:
    """The tokens or the error that follow from this reply, and what was asked for it."""
    asked: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request)
        return reply(request)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client:
            if code is not None:
                return await exchange_code(client, KEYS, code), asked
            return await refresh_tokens(client, KEYS, "old-refresh"), asked
    except SyncError as error:
        return error, asked
    finally:
        await runner.cleanup()


def envelope(data: object, *, code: int = 0) -> Callable[[web.BaseRequest], web.Response]:
    body = msgspec.json.encode({"code": code, "message": "told", "request_id": "r", "data": data})
    return lambda _: web.Response(body=body, content_type="application/json")


async def test_a_code_is_exchanged_by_an_unsigned_get_in_the_documented_spelling() -> None:
    tokens, asked = await ask(envelope(GOOD), code="c/+=&1")
    assert [(r.method, r.path, dict(r.rel_url.query)) for r in asked] == [
        (
            "GET",
            "/api/v2/token/get",
            {
                "app_key": "key1",
                "app_secret": "canary-secret",
                "auth_code": "c/+=&1",
                "grant_type": "authorized_code",
            },
        )
    ]
    assert "canary" not in repr(tokens)


async def test_a_refresh_asks_with_the_refresh_token_and_reads_both_new_ones() -> None:
    tokens, asked = await ask(envelope(GOOD))
    assert [(r.path, r.rel_url.query["refresh_token"], r.rel_url.query["grant_type"]) for r in asked] == [
        ("/api/v2/token/refresh", "old-refresh", "refresh_token")
    ]
    assert not isinstance(tokens, Exception)
    assert getattr(tokens, "access_token", None) == "canary-access"
    assert getattr(tokens, "refresh_token", None) == "canary-refresh"


@pytest.mark.parametrize("code", [36004001, 36004004, 36004005, 98001004])
async def test_a_refused_code_asks_for_a_new_consent(code: int) -> None:
    error, asked = await ask(envelope(None, code=code), code="c1")
    assert isinstance(error, NeedsReauthError)
    assert len(asked) == 1


@pytest.mark.parametrize("code", [36004001, 36004005])
async def test_a_refresh_token_that_is_gone_asks_for_a_new_consent(code: int) -> None:
    error, asked = await ask(envelope(None, code=code), code=None)
    assert isinstance(error, NeedsReauthError)
    assert len(asked) == 1


@pytest.mark.parametrize(("code", "kind"), [(98001004, RequestError), (98001006, AppError)])
async def test_a_refresh_refused_for_another_reason_condemns_no_consent(
    code: int, kind: type[Exception]
) -> None:
    error, _ = await ask(envelope(None, code=code), code=None)
    assert type(error) is kind


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        GOOD | {"access_token": 7},
        GOOD | {"access_token_expire_in": "soon"},
        GOOD | {"access_token_expire_in": 10**17},
        GOOD | {"refresh_token_expire_in": -(10**17)},
        GOOD | {"refresh_token_expire_in": None},
    ],
)
async def test_tokens_of_an_unknown_shape_are_a_failed_request_without_a_secret_in_it(data: object) -> None:
    error, _ = await ask(envelope(data))
    assert isinstance(error, RequestError)
    assert "canary" not in str(error)


@pytest.mark.parametrize("name", ["open_id", "seller_name", "seller_base_region", "granted_scopes"])
async def test_tokens_do_not_depend_on_what_only_describes_the_seller(name: str) -> None:
    for data in (GOOD | {name: None}, {k: v for k, v in GOOD.items() if k != name}):
        tokens, _ = await ask(envelope(data))
        assert not isinstance(tokens, Exception), tokens
