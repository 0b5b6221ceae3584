"""What the simulator refuses before it looks at parameters, and in which order."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.simulator_probe import INVENTORY, ORDERS, PRODUCTS, SHOPS, WAREHOUSES, probing


def _at(offset_s: int) -> dict[str, str | None]:
    return {"timestamp": str(int(time.time()) + offset_s)}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/order/202309/nothing", 404, 36009009),
        ("GET", "/", 404, 36009009),
        ("POST", "/order/202310/orders/search", 400, 36009014),
        ("GET", "/product/202502/products/1729592969712200001", 400, 36009014),
        ("GET", "/product/202309/products/", 404, 36009009),
        ("GET", ORDERS, 400, 36009010),
        ("POST", WAREHOUSES, 400, 36009010),
    ],
)
async def test_paths_versions_and_methods_are_told_apart(
    method: str, path: str, status: int, code: int
) -> None:
    async with probing() as probe:
        answer = await probe.call(method, path)
        assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ({"app_key": "stranger"}, 400, 36009004, "app_key"),
        ({"app_key": None}, 400, 36009004, "app_key"),
        ({"timestamp": None}, 400, 36009004, "timestamp"),
        ({"timestamp": "soon"}, 400, 36009004, "timestamp"),
        ({"timestamp": "-5"}, 400, 36009004, "< 0"),
        ({"timestamp": "1600000000"}, 400, 36009004, "earlier than 5 minutes"),
        ({"sign": None}, 400, 36009004, "signature"),
        ({"sign": "0" * 64}, 401, 106001, "sign"),
        ({"shop_cipher": None}, 400, 106013, "shop_cipher"),
        ({"shop_cipher": "GCP_nobody"}, 401, 101000, "shop_cipher"),
    ],
)
async def test_each_missing_or_wrong_credential_has_its_own_answer(
    query: dict[str, str | None], status: int, code: int, words: str
) -> None:
    async with probing() as probe:
        answer = await probe.call("GET", WAREHOUSES, query=query)
        assert (answer.status, answer.code) == (status, code)
        assert words in answer.json["message"]
        assert answer.data is None


@pytest.mark.parametrize(("offset_s", "accepted"), [(-290, True), (-310, False), (20, True), (45, False)])
async def test_a_timestamp_may_be_five_minutes_old_and_half_a_minute_ahead(
    offset_s: int, accepted: bool
) -> None:
    async with probing() as probe:
        answer = await probe.call("GET", WAREHOUSES, query=_at(offset_s))
        assert (answer.code == 0) is accepted


async def test_the_wrong_secret_is_a_bad_signature() -> None:
    async with probing() as probe:
        assert (await probe.call("GET", WAREHOUSES, secret="another")).code == 106001


async def test_the_signature_covers_the_very_bytes_of_the_body() -> None:
    async with probing() as probe:
        honest = await probe.call("POST", PRODUCTS, query={"page_size": "10"}, body=b'{ "status": "ALL" }')
        assert honest.code == 0
        forged = await probe.call("POST", PRODUCTS, query={"page_size": "10", "sign": "f" * 64}, body=b"{}")
        assert forged.code == 106001


@pytest.mark.parametrize("token", ["", "TTP_nobody"])
async def test_an_absent_or_unknown_token_is_named_in_the_message(token: str) -> None:
    async with probing() as probe:
        answer = await probe.call("GET", WAREHOUSES, token=token)
        assert (answer.status, answer.code) == (400, 36009004)
        assert "x-tts-access-token" in answer.json["message"]


async def test_earlier_checks_win_over_later_ones() -> None:
    async with probing() as probe:
        wrong: dict[str, Any] = {"app_key": "stranger", "timestamp": "1", "shop_cipher": None}
        assert (await probe.call("GET", "/nothing/at/all", query=wrong)).code == 36009009
        assert "app_key" in (await probe.call("GET", WAREHOUSES, query=wrong, secret="x")).json["message"]
        stale = {"timestamp": "1", "shop_cipher": None}
        assert "timestamp" in (await probe.call("GET", WAREHOUSES, query=stale, secret="x")).json["message"]
        unsure = {"shop_cipher": None}
        assert (await probe.call("GET", WAREHOUSES, query=unsure, secret="x", token="")).code == 106001
        assert "token" in (await probe.call("GET", WAREHOUSES, query=unsure, token="")).json["message"]


@pytest.mark.parametrize("path", [SHOPS, "/seller/202309/shops"])
async def test_the_shop_lists_refuse_a_cipher(path: str) -> None:
    async with probing() as probe:
        assert (await probe.call("GET", path)).code == 0
        answer = await probe.call("GET", path, query={"shop_cipher": probe.shop.cipher})
        assert (answer.status, answer.code) == (400, 36009004)
        assert "Unexpected identifier" in answer.json["message"]


async def test_a_cipher_of_another_seller_does_not_open_its_shop() -> None:
    async with probing(shops=2) as probe:
        other = list(probe.running.world.shops.values())[1]
        answer = await probe.call("GET", WAREHOUSES, query={"shop_cipher": other.cipher})
        assert answer.code == 101000


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", SHOPS, "seller.authorization.info"),
        ("POST", ORDERS, "seller.order.info"),
        ("GET", "/order/202507/orders", "seller.order.info"),
        ("POST", PRODUCTS, "seller.product.basic"),
        ("POST", INVENTORY, "seller.product.basic"),
        ("GET", WAREHOUSES, "seller.logistics"),
    ],
)
async def test_every_call_needs_its_own_scope(method: str, path: str, scope: str) -> None:
    async with probing() as probe:
        scopes = probe.running.simulation.accounts.consents[probe.shop.seller.open_id].scopes
        granted = sorted(scopes - {scope})
        await probe.control("POST", f"sellers/{probe.shop.seller.open_id}/scopes", {"granted": granted})
        answer = await probe.call(method, path)
        assert (answer.status, answer.code) == (401, 105005)


async def test_a_shop_that_is_switched_off_is_inactive_until_it_is_back() -> None:
    async with probing() as probe:
        await probe.control("POST", f"shops/{probe.shop.shop_id}/deactivate")
        answer = await probe.call("GET", WAREHOUSES)
        assert (answer.status, answer.code) == (401, 36009043)
        assert "shops" not in (await probe.call("GET", "/seller/202309/shops")).data
        await probe.control("POST", f"shops/{probe.shop.shop_id}/activate")
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def test_a_new_cipher_makes_the_old_one_unknown() -> None:
    async with probing() as probe:
        old = probe.shop.cipher
        await probe.control("POST", f"shops/{probe.shop.shop_id}/cipher")
        assert (await probe.call("GET", WAREHOUSES, query={"shop_cipher": old})).code == 101000
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def test_every_reply_has_a_date_and_a_request_id() -> None:
    async with probing() as probe:
        good, bad = await probe.call("GET", WAREHOUSES), await probe.call("GET", "/nothing")
        for answer in (good, bad):
            assert answer.headers["Date"].endswith("GMT")
            assert len(answer.json["request_id"]) > 20
        assert good.json["request_id"] != bad.json["request_id"]
        assert list(good.json) == sorted(good.json)
