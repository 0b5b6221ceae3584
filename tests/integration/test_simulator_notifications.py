"""Which notifications the simulator sends, what they look like, and how they are delivered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiktok_shop_api.webhooks import UnknownWebhookEvent, Webhooks

from sync.simulator.notices import LOW_STOCK
from sync.tiktok.signing import sign_notification
from tests.integration.notification_receiver import happen, receiving, settled
from tests.integration.simulator_probe import probing


async def test_the_third_partys_verifier_accepts_and_parses_all_of_them() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url, silent_edits=30) as probe:
        options, simulation = probe.running.options, probe.running.simulation
        for _ in range(400):
            simulation.mutations.mutate()
        happen(probe, "change_category")
        await probe.control("POST", "notify", {"type": 7, "shop_id": probe.shop.shop_id})
        simulation.revoke(probe.shop.seller.open_id)
        await settled(simulation.notifier)
        for heard in receiver.heard:
            event = Webhooks.verify_and_parse(
                app_key=options.app_key,
                app_secret=options.app_secret,
                raw_body=heard.raw,
                signature=heard.signature,
            )
            assert not isinstance(event, UnknownWebhookEvent)
        kinds = {heard.type for heard in receiver.heard}
        assert kinds >= {1, 3, 4, 5, 6, 7, 11, 15, 16, 18, 37, 50, 71}


@pytest.mark.parametrize(
    ("key", "secret", "body", "signature"),
    [
        (
            "abcdef",
            "123",
            b'{"type":1,"tts_notification_id":"7380066284010030890","shop_id":"7495540735365777507",'
            b'"timestamp":1718305585,"data":{"is_on_hold_order":true,"order_id":"576653688135258178",'
            b'"order_status":"UNPAID","update_time":1718305585}}',
            "5dec0f11ec2f6783b8deee53c9ffbf8d024302f7c7e7fa55a35d17629031ac05",
        ),
        (
            "29a39d",
            "e59af819cc",
            b'{"type":6,"tts_notification_id":"7327112393057371910","shop_id":"7494049642642441621",'
            b'"timestamp":1644412885,"data":{"message":"Shop_id {7494049642642441621} is deauthorized from '
            b'your APP by merchant."}}',
            "46f491c7387515f42f5414dc5b9f6af70bdcc6ba288fa0d9be633a571f41a30d",
        ),
    ],
)
def test_the_signature_is_that_of_the_published_vectors(
    key: str, secret: str, body: bytes, signature: str
) -> None:
    assert sign_notification(body, app_key=key, app_secret=secret) == signature


async def test_an_orders_way_is_told_in_the_topics_own_words() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        placed = happen(probe, "place_order", 20)
        paid = happen(probe, "pay_order")
        gone = happen(probe, "cancel_order")
        await settled(probe.running.simulation.notifier)
        told = [heard.json["data"] for heard in receiver.of_type(1)]
        assert {one["order_id"] for one in told if one["order_status"] == "UNPAID"} >= set(placed)
        assert [one["order_status"] for one in told if one["order_id"] == gone[0]][-1] == "CANCEL"
        assert any(one["order_id"] == paid[0] and one["order_status"] != "UNPAID" for one in told)
        (cancelled,) = receiver.of_type(11)
        assert cancelled.json["data"]["order_id"] == gone[0]
        truth = {one["id"]: one for one in await probe.truth("orders")}
        assert all(one["update_time"] <= truth[one["order_id"]]["update_time"] for one in told)


async def test_a_split_while_shipping_is_told_as_a_package_update_only() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        while not receiver.of_type(4):
            happen(probe, "place_order", 10)
            happen(probe, "advance_order", 40)
            await settled(probe.running.simulation.notifier)
        split = receiver.of_type(4)[0].json["data"]
        assert split["sc_type"] == "SPLIT"
        assert split["package_list"][0]["order_id_list"]
        assert not any(
            one.json["data"]["order_status"] == "PARTIALLY_SHIPPING" for one in receiver.of_type(1)
        )


async def test_some_delivered_orders_are_sent_back() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url, orders=400) as probe:
        while not receiver.of_type(12):
            happen(probe, "advance_order", 40)
            happen(probe, "place_order", 10)
            await settled(probe.running.simulation.notifier)
        back = receiver.of_type(12)[0].json["data"]
        truth = {one["id"]: one for one in await probe.truth("orders")}
        assert truth[back["order_id"]]["status"] in ("DELIVERED", "COMPLETED")


async def test_stock_is_told_with_bare_integers_and_alerts_when_it_runs_low() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url, orders=0) as probe:
        for product in probe.shop.products.values():
            for sku in product.skus:
                for place, stock in enumerate(sku.stock.values()):
                    stock.available = LOW_STOCK + 1 if place == 0 else 0
        while not receiver.of_type(27):
            happen(probe, "move_stock", 10)
            await settled(probe.running.simulation.notifier)
        moved = receiver.of_type(71)[0].json["data"]
        assert moved["shop_id"] == int(probe.shop.shop_id)
        assert isinstance(moved["product_id"], int)
        assert isinstance(moved["sku_id"], int)
        events = [heard.json["data"]["event_id"] for heard in receiver.of_type(71)]
        assert len(set(events)) == len(events)
        low = receiver.of_type(27)[0].json["data"]
        assert low["inventory_distribution"]["available_quantity"] <= LOW_STOCK


@pytest.mark.parametrize(
    ("kind", "topic"), [("create_product", 16), ("delete_product", 5), ("create_product", 37)]
)
async def test_products_are_told_by_integer_in_some_topics(kind: str, topic: int) -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        (changed,) = happen(probe, kind)
        await settled(probe.running.simulation.notifier)
        (heard,) = receiver.of_type(topic)
        assert heard.json["data"]["product_id"] == int(changed)


@pytest.mark.parametrize(("kind", "topic"), [("change_skus", 50), ("change_category", 18)])
async def test_products_are_told_by_text_in_others(kind: str, topic: int) -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        (changed,) = happen(probe, kind)
        await settled(probe.running.simulation.notifier)
        (heard,) = receiver.of_type(topic)
        assert heard.json["data"]["product_id"] == changed


async def test_only_live_products_tell_of_edits() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        live = {str(one.id) for one in probe.shop.products.values() if one.status == "ACTIVATE"}
        for product in probe.shop.products.values():
            product.status = "ACTIVATE" if str(product.id) in live else "SELLER_DEACTIVATED"
        edited = happen(probe, "edit_product", 60)
        await settled(probe.running.simulation.notifier)
        switched = {str(one.json["data"]["product_id"]) for one in receiver.of_type(5)}
        told = {one.json["data"]["product_id"] for one in receiver.of_type(15)}
        assert told <= live | switched
        assert told & set(edited)


async def test_only_the_address_topic_has_no_id_and_other_ids_never_repeat() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url, silent_edits=40) as probe:
        for _ in range(200):
            probe.running.simulation.mutations.mutate()
        await settled(probe.running.simulation.notifier)
        without = {heard.type for heard in receiver.heard if "tts_notification_id" not in heard.json}
        assert without == {3}
        ids = [heard.json["tts_notification_id"] for heard in receiver.heard if heard.type != 3]
        assert len(set(ids)) == len(ids)


async def test_a_withdrawn_consent_is_told_for_each_shop_and_is_the_last_that_is_told() -> None:
    async with receiving() as receiver, probing(shops=3, shop=1, notify_url=receiver.url) as probe:
        own = [shop.shop_id for shop in probe.running.world.shops_of(probe.shop.seller.open_id)]
        await probe.control("POST", f"sellers/{probe.shop.seller.open_id}/revoke")
        happen(probe, "place_order", 5)
        counts = await settled(probe.running.simulation.notifier)
        assert [(heard.type, heard.json["shop_id"]) for heard in receiver.heard] == [(6, one) for one in own]
        assert counts["unaddressed"] == counts["made"] - len(own)


async def test_a_shop_that_nobody_connected_is_not_heard_of() -> None:
    async with receiving() as receiver, probing(shops=2, notify_url=receiver.url) as probe:
        stranger = list(probe.running.world.shops.values())[1]
        probe.running.simulation.mutations.make("place_order", stranger)
        happen(probe, "place_order")
        await settled(probe.running.simulation.notifier)
        assert {heard.json["shop_id"] for heard in receiver.heard} == {probe.shop.shop_id}


async def test_a_notification_can_be_asked_for_whatever_it_says() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        told = {"type": 999, "shop_id": "1", "data": {"any": ["thing"]}, "timestamp": 5}
        sent = await probe.control("POST", "notify", told)
        await settled(probe.running.simulation.notifier)
        (heard,) = receiver.heard
        assert heard.json == told | sent


@pytest.mark.parametrize("told", [{}, {"type": "1", "data": {}}, {"type": 1, "data": []}, {"type": 1}])
async def test_what_is_no_notification_is_refused(told: dict[str, Any]) -> None:
    async with probing() as probe:
        answer = await probe.send("POST", "/_sim/notify", raw=json.dumps(told).encode())
        assert (answer.status, bool(answer.json["error"])) == (400, True)


async def test_statistics_tell_by_type_and_can_start_anew() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        happen(probe, "delete_product", 2)
        await settled(probe.running.simulation.notifier)
        shown = (await probe.control("GET", "stats"))["notifications"]
        assert shown["by_type"] == {"5": {"made": 2, "sent": 2, "delivered": 2}}
        await probe.control("POST", "stats/reset")
        assert (await probe.control("GET", "stats"))["notifications"]["made"] == 0
