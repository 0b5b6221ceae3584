"""Changes by name, and edits of orders that leave the update_time alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.notification_receiver import receiving, settled
from tests.integration.simulator_probe import Probe, probing

_DETAIL = "/order/202507/orders"
_SILENT = ("edit_address", "edit_note", "repack_order")


async def _make(probe: Probe, kind: str, count: int = 1) -> list[str]:
    asked = {"kind": kind, "shop_id": probe.shop.shop_id, "count": count}
    made = await probe.control("POST", "mutate", asked)
    assert made["done"] == len(made["ids"])
    return list(made["ids"])


async def _orders(probe: Probe) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in await probe.truth("orders")}


@pytest.mark.parametrize(
    ("kind", "fields", "topics"),
    [
        ("edit_address", {"recipient_address", "has_updated_recipient_address"}, {3}),
        ("edit_note", {"seller_note"}, set()),
        ("repack_order", {"packages", "line_items", "split_or_combine_tag", "tracking_number"}, {4}),
    ],
)
async def test_a_silent_edit_changes_these_fields_and_no_time(
    kind: str, fields: set[str], topics: set[int]
) -> None:
    async with receiving() as receiver, probing(orders=900, notify_url=receiver.url) as probe:
        before = await _orders(probe)
        edited = await _make(probe, kind, 5)
        after = await _orders(probe)
        assert edited
        changed = {one: after[one] for one in before if after[one] != before[one]}
        assert set(changed) == set(edited)
        for name, order in changed.items():
            differing = {key for key in order if order[key] != before[name].get(key)}
            assert differing <= fields
            assert order["update_time"] == before[name]["update_time"]
        await settled(probe.running.simulation.notifier)
        assert {heard.type for heard in receiver.heard} == topics
        ids = ",".join(edited)
        shown = (await probe.call("GET", _DETAIL, query={"ids": ids})).data["orders"]
        assert all(fields & set(order) for order in shown)


async def test_a_repacked_order_names_the_packages_it_has() -> None:
    async with probing(orders=900) as probe:
        for name in await _make(probe, "repack_order", 30):
            order = (await _orders(probe))[name]
            packages = {package["id"] for package in order["packages"]}
            assert {line["package_id"] for line in order["line_items"] if line["package_id"]} == packages


async def test_silent_edits_can_stay_untold() -> None:
    async with (
        receiving() as receiver,
        probing(orders=900, notify_url=receiver.url, silent_edits_notify=False) as probe,
    ):
        for kind in _SILENT:
            assert await _make(probe, kind, 3)
        counts = await settled(probe.running.simulation.notifier)
        assert counts["made"] == 0


async def test_random_changes_hold_silent_edits_only_when_asked_to() -> None:
    async with probing(orders=900) as probe:
        await probe.control("POST", "mutate", {"count": 300})
        assert not set(_SILENT) & set(probe.running.simulation.mutations.counts)
        await probe.control("POST", "settings", {"silent_edits": 60})
        await probe.control("POST", "mutate", {"count": 300})
        assert set(_SILENT) <= set(probe.running.simulation.mutations.counts)


async def test_unpaid_orders_are_paid_on_demand_even_when_there_are_none() -> None:
    async with probing(orders=0) as probe:
        paid = await _make(probe, "pay_order", 30)
        orders = await _orders(probe)
        assert len(set(paid)) == 30
        assert {orders[name]["status"] for name in paid} <= {"ON_HOLD", "AWAITING_SHIPMENT"}
        assert all(orders[name]["paid_time"] == orders[name]["update_time"] for name in paid)


async def test_a_kind_is_made_once_in_the_first_shop_unless_said_otherwise() -> None:
    async with probing(shops=2) as probe:
        made = await probe.control("POST", "mutate", {"kind": "place_order"})
        assert (made["done"], made["shop_id"]) == (1, probe.shop.shop_id)


async def test_a_change_that_finds_nothing_to_change_says_so() -> None:
    async with probing(orders=0) as probe:
        assert await _make(probe, "repack_order", 2) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "explode"}, 400),
        ({"kind": "__init__"}, 400),
        ({"kind": ["place_order"]}, 400),
        ({"kind": "place_order", "count": -1}, 400),
        ({"kind": "place_order", "shop_id": "1"}, 404),
    ],
)
async def test_impossible_changes_are_refused(body: dict[str, Any], status: int) -> None:
    async with probing() as probe:
        answer = await probe.send("POST", "/_sim/mutate", raw=json.dumps(body).encode())
        assert answer.status == status


async def test_unknown_ids_in_a_detail_call_are_left_out_or_refuse_it_all() -> None:
    async with probing(shops=2) as probe:
        own, stranger = (next(iter(shop.orders.newest)) for shop in probe.running.world.shops.values())
        asked = {"ids": f"{own},{stranger}"}
        left = (await probe.call("GET", _DETAIL, query=asked)).data["orders"]
        assert [order["id"] for order in left] == [str(own)]
        await probe.control("POST", "settings", {"unknown_detail_ids": "refuse"})
        assert (await probe.call("GET", _DETAIL, query=asked)).code == 21008111
        assert (await probe.call("GET", _DETAIL, query={"ids": str(own)})).code == 0


async def test_a_detail_call_takes_fifty_ids_and_answers_none_of_them_with_no_list() -> None:
    async with probing() as probe:
        fifty = ",".join(str(1000 + number) for number in range(50))
        assert (await probe.call("GET", _DETAIL, query={"ids": fifty})).data == {}
        assert (await probe.call("GET", _DETAIL, query={"ids": f"{fifty},7"})).code == 36009004
