"""When and where a fault that is switched on strikes, and what the control endpoint says about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync.simulator.fault_registry import FAULTS
from tests.integration.simulator_probe import Probe, probing


async def _add(probe: Probe, fault: str, **wanted: Any) -> None:
    await probe.control("POST", "faults", {"fault": fault, **wanted})


async def test_faults_strike_as_often_as_they_are_told() -> None:
    async with probing() as probe:

        async def codes(count: int) -> list[int]:
            return [(await probe.orders(page_size="1")).code for _ in range(count)]

        await _add(probe, "internal_error", every=3)
        assert await codes(7) == [0, 0, 36009003, 0, 0, 36009003, 0]
        await probe.control("DELETE", "faults")
        await _add(probe, "internal_error", after=2, times=2)
        assert await codes(6) == [0, 0, 36009003, 36009003, 0, 0]
        await probe.control("DELETE", "faults?fault=internal_error")
        await _add(probe, "internal_error", probability=0.5)
        struck = (await codes(200)).count(36009003)
        assert 60 < struck < 140


async def test_faults_stay_with_their_path_and_shop() -> None:
    async with probing(shop=1, shops=3) as probe:
        await _add(probe, "internal_error", path="/products/", shop_id=probe.shop.shop_id)
        assert (await probe.orders()).code == 0
        assert (await probe.products()).code == 36009003
        probe.shop = probe.running.world.shops_of(probe.shop.seller.open_id)[1]
        assert (await probe.products()).code == 0


async def test_token_calls_fail_only_when_they_are_named() -> None:
    async with probing() as probe:
        await _add(probe, "unavailable_html")
        granted = await probe.authorize()
        await _add(probe, "internal_error", path="/token/refresh")
        grant = {"refresh_token": granted["refresh_token"], "grant_type": "refresh_token"}
        assert (await probe.tokens("refresh", **grant)).code == 36009003
        await probe.control("DELETE", "faults")
        assert (await probe.tokens("refresh", **grant)).code == 0


async def test_the_list_names_every_fault_with_a_description_and_what_is_on() -> None:
    async with probing() as probe:
        await _add(probe, "slow", seconds=0.0, times=5)
        listed = await probe.control("GET", "faults")
        assert {one["name"] for one in listed["faults"]} == set(FAULTS)
        assert all(one["description"] for one in listed["faults"])
        await probe.orders()
        (active,) = (await probe.control("GET", "faults"))["active"]
        assert (active["fault"], active["struck"], active["params"]) == ("slow", 1, {"seconds": 0.0})
        assert (await probe.control("DELETE", f"faults?id={active['id']}"))["removed"] == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"fault": "gremlins"},
        {},
        {"fault": "slow", "hours": 1},
        {"fault": "slow", "seconds": "long"},
        {"fault": "slow", "every": 0},
        {"fault": "slow", "times": -1},
    ],
)
async def test_impossible_faults_are_refused_with_the_reason(wanted: dict[str, Any]) -> None:
    async with probing() as probe:
        answer = await probe.send("POST", "/_sim/faults", raw=json.dumps(wanted).encode())
        assert answer.status == 400
        assert answer.json["error"]
