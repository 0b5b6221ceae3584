"""Addresses that are set for single shops and topics, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.notification_receiver import receiving, settled
from tests.integration.simulator_probe import Answer, Probe, probing

_PATH = "/event/202309/webhooks"


async def _put(probe: Probe, topic: str, address: str, **more: Any) -> Answer:
    return await probe.call("PUT", _PATH, body={"address": address, "event_type": topic}, **more)


async def _listed(probe: Probe) -> dict[str, str]:
    found = (await probe.call("GET", _PATH)).data
    assert found["total_count"] == len(found.get("webhooks", []))
    return {one["event_type"]: one["address"] for one in found.get("webhooks", [])}


async def test_an_address_is_set_changed_listed_and_removed() -> None:
    async with probing() as probe:
        assert await _listed(probe) == {}
        for address in ("https://one.example/hook", "https://two.example/hook"):
            assert (await _put(probe, "ORDER_STATUS_CHANGE", address)).data == {}
        assert (await _put(probe, "PRODUCT_CREATION", "https://one.example/hook")).code == 0
        assert await _listed(probe) == {
            "ORDER_STATUS_CHANGE": "https://two.example/hook",
            "PRODUCT_CREATION": "https://one.example/hook",
        }
        for _ in range(2):
            gone = await probe.call("DELETE", _PATH, body={"event_type": "ORDER_STATUS_CHANGE"})
            assert gone.data == {}
        assert await _listed(probe) == {"PRODUCT_CREATION": "https://one.example/hook"}


async def test_an_address_belongs_to_one_shop() -> None:
    async with probing(shops=3, shop=1) as probe:
        await _put(probe, "ORDER_STATUS_CHANGE", "https://one.example/hook")
        other = probe.running.world.shops_of(probe.shop.seller.open_id)[1]
        assert (await probe.call("GET", _PATH, query={"shop_cipher": other.cipher})).data["total_count"] == 0


async def test_an_address_of_a_shops_own_beats_the_default_one() -> None:
    async with receiving() as own, receiving() as default, probing(notify_url=default.url) as probe:
        await _put(probe, "PRODUCT_STATUS_CHANGE", own.url)
        for kind in ("delete_product", "create_product"):
            probe.running.simulation.mutations.make(kind, probe.shop)
        await settled(probe.running.simulation.notifier)
        assert {heard.type for heard in own.heard} == {5}
        assert {heard.type for heard in default.heard} == {16, 37}


@pytest.mark.parametrize(
    "body",
    [
        {"event_type": "ORDER_STATUS_CHANGE"},
        {"address": "https://one.example"},
        {"address": "https://one.example", "event_type": "REVERSE_STATUS_UPDATE"},
        {"address": "https://one.example", "event_type": 1},
        {"address": "one.example", "event_type": "ORDER_STATUS_CHANGE"},
        {"address": f"https://one.example/{'x' * 236}", "event_type": "ORDER_STATUS_CHANGE"},
    ],
)
async def test_wrong_settings_are_refused(body: dict[str, Any]) -> None:
    async with probing() as probe:
        assert (await probe.call("PUT", _PATH, body=body)).code == 36009004
        assert await _listed(probe) == {}


async def test_an_address_may_have_255_characters() -> None:
    async with probing() as probe:
        address = f"https://one.example/{'x' * 235}"
        assert len(address) == 255
        assert (await _put(probe, "ORDER_STATUS_CHANGE", address)).code == 0


@pytest.mark.parametrize(("method", "status"), [("PUT", 401), ("GET", 401), ("DELETE", 401)])
async def test_an_inactive_shop_a_missing_scope_and_the_allow_list_refuse_them(
    method: str, status: int
) -> None:
    body = None if method == "GET" else {"address": "https://a.example", "event_type": "PRODUCT_CREATION"}
    async with probing() as probe:
        await probe.control("POST", "faults", {"fault": "ip_denied", "times": 1})
        denied = await probe.call(method, _PATH, body=body)
        await probe.control("POST", f"shops/{probe.shop.shop_id}/deactivate")
        inactive = await probe.call(method, _PATH, body=body)
        await probe.control("POST", f"shops/{probe.shop.shop_id}/activate")
        seller = f"sellers/{probe.shop.seller.open_id}"
        await probe.control("POST", f"{seller}/scopes", {"granted": ["seller.order.info"]})
        unscoped = await probe.call(method, _PATH, body=body)
        await probe.control("POST", f"{seller}/revoke")
        revoked = await probe.call(method, _PATH, body=body)
        answers = (denied, inactive, unscoped, revoked)
        assert [one.code for one in answers] == [36009033, 36009043, 105005, 36009004]
        assert {one.status for one in answers} == {status}


async def test_other_methods_and_versions_are_told_apart() -> None:
    async with probing() as probe:
        assert (await probe.call("POST", _PATH, body={})).code == 36009010
        assert (await probe.call("GET", "/event/202312/webhooks")).code == 36009014
        assert (await probe.call("GET", _PATH, query={"shop_cipher": None})).code == 106013
