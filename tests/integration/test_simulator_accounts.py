"""Consent, authorization codes, and token pairs that rotate."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.integration.simulator_probe import WAREHOUSES, probing


async def test_a_code_gives_a_token_pair_with_absolute_expiries() -> None:
    async with probing(access_token_life_s=600, refresh_token_life_s=9_000) as probe:
        granted = await probe.authorize()
        assert granted["access_token_expire_in"] == pytest.approx(time.time() + 600, abs=3)
        assert granted["refresh_token_expire_in"] == pytest.approx(time.time() + 9_000, abs=3)
        assert granted["open_id"] == probe.shop.seller.open_id
        assert granted["user_type"] == 0


@pytest.mark.parametrize(
    ("kind", "query", "code"),
    [
        ("get", {"auth_code": "ROW_nobody", "grant_type": "authorized_code"}, 36004004),
        ("get", {"grant_type": "authorized_code"}, 98001004),
        ("get", {"auth_code": "x", "grant_type": "authorization_code"}, 98001004),
        ("get", {"auth_code": "x", "grant_type": "authorized_code", "app_secret": "no"}, 98001006),
        ("refresh", {"refresh_token": "x", "grant_type": "refresh_token", "app_key": "no"}, 98001006),
        ("refresh", {"refresh_token": "TTP_nobody", "grant_type": "refresh_token"}, 36004005),
    ],
)
async def test_failures_of_token_calls_come_with_status_200_and_a_code(
    kind: str, query: dict[str, str], code: int
) -> None:
    async with probing() as probe:
        answer = await probe.tokens(kind, **query)
        assert (answer.status, answer.code) == (200, code)


async def test_token_calls_are_get_only() -> None:
    async with probing() as probe:
        answer = await probe.send("POST", "/api/v2/token/get")
        assert (answer.status, answer.raw) == (404, b"404 page not found")


async def test_a_code_works_once_and_for_half_an_hour() -> None:
    async with probing(auth_code_life_s=1_800) as probe:
        accounts = probe.running.simulation.accounts
        code = accounts.issue_code(probe.shop.seller.open_id)
        grant = {"auth_code": code, "grant_type": "authorized_code"}
        assert (await probe.tokens("get", **grant)).code == 0
        assert (await probe.tokens("get", **grant)).code == 36004004
        probe.running.change_options(auth_code_life_s=-1)
        late = accounts.issue_code(probe.shop.seller.open_id)
        assert (await probe.tokens("get", auth_code=late, grant_type="authorized_code")).code == 36004004


async def test_a_refresh_rotates_the_pair_and_leaves_the_old_access_token_its_time() -> None:
    async with probing() as probe:
        first = await probe.authorize()
        grant = {"refresh_token": first["refresh_token"], "grant_type": "refresh_token"}
        second = (await probe.tokens("refresh", **grant)).data
        assert second["refresh_token"] != first["refresh_token"]
        assert (await probe.call("GET", WAREHOUSES, token=first["access_token"])).code == 0
        assert (await probe.call("GET", WAREHOUSES, token=second["access_token"])).code == 0
        assert (await probe.tokens("refresh", **grant)).code == 36004005


async def test_which_old_tokens_die_is_a_choice() -> None:
    async with probing(old_refresh_dies=False, old_access_dies=True) as probe:
        first = await probe.authorize()
        grant = {"refresh_token": first["refresh_token"], "grant_type": "refresh_token"}
        assert (await probe.tokens("refresh", **grant)).code == 0
        assert (await probe.call("GET", WAREHOUSES, token=first["access_token"])).code == 36009004
        assert (await probe.tokens("refresh", **grant)).code == 0


@pytest.mark.parametrize("status", [200, 401])
async def test_expired_access_tokens_say_so(status: int) -> None:
    async with probing(expired_token_status=status) as probe:
        assert (await probe.control("POST", "tokens/expire"))["expired"] >= 1
        answer = await probe.call("GET", WAREHOUSES)
        assert (answer.status, answer.code) == (status, 105002)


async def test_an_access_token_expires_by_itself() -> None:
    async with probing(access_token_life_s=-1) as probe:
        assert (await probe.call("GET", WAREHOUSES)).code == 105002


async def test_an_expired_refresh_token_is_told_from_an_unknown_one() -> None:
    async with probing(refresh_token_life_s=-1) as probe:
        granted = await probe.authorize()
        grant = {"refresh_token": granted["refresh_token"], "grant_type": "refresh_token"}
        assert (await probe.tokens("refresh", **grant)).code == 36004001


@pytest.mark.parametrize("code", [36009004, 101000, 105002])
async def test_a_withdrawn_consent_kills_every_token_until_the_next_consent(code: int) -> None:
    async with probing(revoked_code=code) as probe:
        granted = await probe.authorize()
        await probe.control("POST", f"sellers/{probe.shop.seller.open_id}/revoke")
        answer = await probe.call("GET", WAREHOUSES)
        assert (answer.status, answer.code) == (401, code)
        grant = {"refresh_token": granted["refresh_token"], "grant_type": "refresh_token"}
        assert (await probe.tokens("refresh", **grant)).code == 36004005
        await probe.authorize()
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def test_a_scope_given_back_counts_only_after_a_fresh_consent() -> None:
    async with probing() as probe:
        first = await probe.authorize()
        everything = first["granted_scopes"]
        seller = f"sellers/{probe.shop.seller.open_id}/scopes"
        await probe.control("POST", seller, {"granted": ["seller.order.info"]})
        few = await probe.authorize()
        assert few["granted_scopes"] == ["seller.order.info"]
        await probe.control("POST", seller, {"granted": everything})
        grant = {"refresh_token": few["refresh_token"], "grant_type": "refresh_token"}
        assert (await probe.tokens("refresh", **grant)).data["granted_scopes"] == ["seller.order.info"]
        assert (await probe.call("GET", WAREHOUSES)).code == 105005
        await probe.authorize()
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def _answer_consent(allow: str, state: str) -> dict[str, str]:
    async with probing(redirect_url="http://127.0.0.1:9/oauth/callback") as probe:
        asked = {"service_id": probe.running.options.service_id, "state": state}
        page = await probe.send("GET", "/open/authorize", query=asked)
        assert probe.shop.seller.name.encode() in page.raw
        decision = {**asked, "seller": probe.shop.seller.open_id, "allow": allow}
        answer = await probe.send("GET", "/open/authorize/decision", query=decision)
        assert answer.status == 302
        target = urlsplit(answer.headers["Location"])
        assert target.geturl().startswith("http://127.0.0.1:9/oauth/callback?")
        sent = dict(parse_qsl(target.query))
        if allow == "1":
            assert (await probe.tokens("get", auth_code=sent["code"], grant_type="authorized_code")).code == 0
        return sent


async def test_the_consent_page_redirects_with_a_working_code_and_the_state() -> None:
    sent = await _answer_consent("1", "a&b")
    assert set(sent) == {"app_key", "code", "locale", "shop_region", "state"}
    assert sent["state"] == "a&b"


async def test_a_refusal_redirects_with_the_word_null() -> None:
    assert await _answer_consent("0", "") == {"code": "null", "error": "auth_denied"}


async def test_an_unknown_service_does_not_exist() -> None:
    async with probing() as probe:
        page = await probe.send("GET", "/open/authorize", query={"service_id": probe.running.options.app_key})
        assert b"This service does not exist" in page.raw


async def test_scripts_get_codes_by_name_or_id_and_from_the_truth() -> None:
    async with probing() as probe:
        seller = probe.shop.seller
        listed = next(
            one
            for one in (await probe.control("GET", "truth"))["sellers"]
            if one["open_id"] == seller.open_id
        )
        by_name = await probe.control("POST", "authorize", {"seller": seller.name})
        by_id = await probe.control("POST", "authorize", {"seller": seller.open_id})
        for code in (listed["codes"][0], by_name["code"], by_id["code"]):
            assert (await probe.tokens("get", auth_code=code, grant_type="authorized_code")).code == 0
        unknown = await probe.send("POST", "/_sim/authorize", raw=b'{"seller":"nobody"}')
        assert unknown.status == 404
