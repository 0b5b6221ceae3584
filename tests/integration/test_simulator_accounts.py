"""Authorization codes, and token pairs that rotate."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from sync.simulator.options import SimulatorOptions
from sync.simulator.replies import RefusedError
from sync.simulator.simulation import make_simulation
from sync.simulator.world import build_world
from tests.integration.simulator_probe import SHOPS, WAREHOUSES, Probe, probing


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


async def test_a_code_may_stand_for_some_shops_and_some_scopes() -> None:
    async with probing(shops=3, shop=1) as probe:
        one, other = probe.running.world.shops_of(probe.shop.seller.open_id)
        limits = {"shops": [one.shop_id], "scopes": ["seller.authorization.info", "seller.logistics"]}
        asked = {"seller": probe.shop.seller.open_id, **limits}
        code = (await probe.control("POST", "authorize", asked))["code"]
        granted = (await probe.tokens("get", auth_code=code, grant_type="authorized_code")).data
        assert granted["granted_scopes"] == limits["scopes"]
        token = granted["access_token"]
        listed = (await probe.call("GET", SHOPS, token=token)).data["shops"]
        assert [shop["id"] for shop in listed] == [one.shop_id]
        for shop, code in ((one, 0), (other, 101000)):
            query: dict[str, str | None] = {"shop_cipher": shop.cipher}
            assert (await probe.call("GET", WAREHOUSES, query=query, token=token)).code == code
        await probe.authorize()
        assert len((await probe.call("GET", SHOPS)).data["shops"]) == 2


async def test_limits_of_a_code_that_are_no_lists_of_texts_are_refused() -> None:
    async with probing() as probe:
        for wrong in ({"shops": "all"}, {"scopes": [1]}):
            asked = {"seller": probe.shop.seller.open_id, **wrong}
            answer = await probe.send("POST", "/_sim/authorize", raw=json.dumps(asked).encode())
            assert answer.status == 400


async def _lose(probe: Probe, refresh_token: str) -> None:
    """A refresh takes effect, and whoever asked for it goes away without the answer."""
    asked = asyncio.create_task(
        probe.tokens("refresh", refresh_token=refresh_token, grant_type="refresh_token")
    )
    meter = probe.running.simulation.meter
    async with asyncio.timeout(10):
        while not meter.token_refreshes:
            await asyncio.sleep(0.005)
    asked.cancel()
    await asyncio.wait([asked])


async def test_a_late_answer_of_a_refresh_has_taken_effect_already() -> None:
    async with probing(refresh_latency_s=30.0) as probe:
        refresh_token = (await probe.authorize())["refresh_token"]
        await _lose(probe, refresh_token)
        probe.running.change_options(refresh_latency_s=0.0)
        again = await probe.tokens("refresh", refresh_token=refresh_token, grant_type="refresh_token")
        assert again.code == 36004005


@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_a_cut_answer_of_a_refresh_has_taken_effect_too(share: float) -> None:
    async with probing() as probe:
        refresh_token = (await probe.authorize())["refresh_token"]
        grant = {"refresh_token": refresh_token, "grant_type": "refresh_token"}
        await probe.control("POST", "faults", {"fault": "token_cut", "share": share, "times": 1})
        assert (await probe.call("GET", WAREHOUSES)).code == 0
        # aiohttp would quietly send the request once more and show the answer to that.
        probe.session._retry_connection = False
        with pytest.raises(aiohttp.ClientError):
            await probe.tokens("refresh", **grant)
        assert (await probe.tokens("refresh", **grant)).code == 36004005
        await probe.authorize()
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def test_an_access_token_lives_to_the_very_second_it_names() -> None:
    now = [1_800_000_000.75]
    world = build_world(seed=7, shops=1, orders_per_shop=0, products_per_shop=5)
    simulation = make_simulation(world, SimulatorOptions(access_token_life_s=5), clock=lambda: now[0])
    code = simulation.accounts.issue_code(world.sellers[0].open_id)
    granted = simulation.accounts.exchange(code)
    assert granted["access_token_expire_in"] == 1_800_000_005
    now[0] = 1_800_000_004.999
    assert simulation.accounts.session_of(str(granted["access_token"])).seller is world.sellers[0]
    now[0] = 1_800_000_005.0
    with pytest.raises(RefusedError) as refused:
        simulation.accounts.session_of(str(granted["access_token"]))
    assert refused.value.code == 105002
