"""How notifications are delivered: retries, loss, duplicates, disorder, and receivers that misbehave."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.integration.notification_receiver import Heard, happen, receiving, settled
from tests.integration.simulator_probe import Probe, probing


def _count(probe: Probe) -> dict[str, Any]:
    return probe.running.simulation.notifier.summary()


async def test_anything_but_200_is_tried_again_four_times_and_then_dropped() -> None:
    statuses = Counter[str]()

    def answer(heard: Heard) -> int:
        statuses[heard.json["tts_notification_id"]] += 1
        return 503

    async with (
        receiving(answer) as receiver,
        probing(notify_url=receiver.url, notify_retry_scale=1e-6) as probe,
    ):
        happen(probe, "delete_product")
        counts = await settled(probe.running.simulation.notifier)
        assert list(statuses.values()) == [5]
        assert [counts[name] for name in ("made", "sent", "retried", "delivered", "dropped")] == [
            1,
            5,
            4,
            0,
            1,
        ]
        assert len({heard.raw for heard in receiver.heard}) == 1


async def test_it_is_delivered_at_the_first_200() -> None:
    answers = iter([401, 500, 200])
    async with (
        receiving(lambda heard: next(answers)) as receiver,
        probing(notify_url=receiver.url, notify_retry_scale=1e-6) as probe,
    ):
        happen(probe, "delete_product")
        counts = await settled(probe.running.simulation.notifier)
        assert [counts[name] for name in ("sent", "delivered", "dropped")] == [3, 1, 0]
        assert counts["delay_ms"]["max"] >= counts["answer_ms"]["max"]


async def test_an_answer_that_takes_too_long_counts_as_none() -> None:
    async with (
        receiving() as receiver,
        probing(notify_url=receiver.url, notify_timeout_s=0.05, notify_retry_scale=1e-6) as probe,
    ):
        receiver.hold.clear()
        happen(probe, "delete_product")
        await receiver.wait_for(2)
        receiver.hold.set()
        counts = await settled(probe.running.simulation.notifier)
        assert counts["delivered"] == 1
        assert counts["retried"] >= 1


async def test_the_first_retry_comes_after_two_scaled_minutes() -> None:
    async with receiving(lambda heard: 500) as receiver, probing(notify_url=receiver.url) as probe:
        happen(probe, "delete_product")
        await receiver.wait_for(1)
        async with asyncio.timeout(10):
            while _count(probe)["in_flight"]:
                await asyncio.sleep(0.005)
        assert _count(probe)["waiting"] == 1
        assert _count(probe)["retried"] == 0


async def test_a_receiver_that_is_not_there_costs_nothing_but_retries() -> None:
    async with probing(notify_url="http://127.0.0.1:9/", notify_retry_scale=1e-6) as probe:
        happen(probe, "delete_product", 3)
        counts = await settled(probe.running.simulation.notifier)
        assert [counts[name] for name in ("sent", "dropped")] == [15, 3]


async def test_loss_and_duplicates_are_shares_and_repeatable() -> None:
    async def run() -> tuple[list[int], list[int]]:
        async with (
            receiving() as receiver,
            probing(notify_url=receiver.url, notify_loss=0.3, notify_duplicates=0.4, seed=5) as probe,
        ):
            for number in range(200):
                told = {"type": 1, "shop_id": probe.shop.shop_id, "data": {"number": number}}
                await probe.control("POST", "notify", told)
            counts = await settled(probe.running.simulation.notifier)
            numbers = sorted(heard.json["data"]["number"] for heard in receiver.heard)
            return numbers, [counts[name] for name in ("made", "lost", "duplicated", "delivered")]

    (numbers, counts), again = await run(), await run()
    assert (numbers, counts) == again
    made, lost, duplicated, delivered = counts
    assert made == 200
    assert 30 < lost < 90
    assert 30 < duplicated < 90
    assert delivered == made - lost + duplicated == len(numbers)


async def test_disorder_delays_each_by_its_own_time() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url, notify_disorder_s=0.2) as probe:
        for number in range(60):
            told = {"type": 1, "shop_id": probe.shop.shop_id, "data": {"number": number}}
            await probe.control("POST", "notify", told)
        await settled(probe.running.simulation.notifier)
        numbers = [heard.json["data"]["number"] for heard in receiver.heard]
        assert numbers != sorted(numbers)
        assert sorted(numbers) == list(range(60))


async def test_total_loss_sends_nothing_and_counts_it() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        await probe.control("POST", "settings", {"notify_loss": 1})
        happen(probe, "place_order", 5)
        counts = await settled(probe.running.simulation.notifier)
        assert receiver.heard == []
        assert counts["lost"] == counts["made"] > 0


async def test_at_most_some_hundred_are_in_flight_and_the_rest_follows() -> None:
    async with receiving() as receiver, probing(notify_url=receiver.url) as probe:
        receiver.hold.clear()
        for _ in range(500):
            probe.running.simulation.mutations.make("delete_product", probe.shop)
            happen(probe, "create_product")
        await receiver.wait_for(200)
        assert _count(probe)["in_flight"] == 200
        receiver.hold.set()
        counts = await settled(probe.running.simulation.notifier)
        assert counts["delivered"] == counts["made"] == len(receiver.heard)


async def test_nothing_is_sent_to_other_machines() -> None:
    async with probing(notify_url="https://shop.example.com/webhooks") as probe:
        happen(probe, "delete_product")
        counts = await settled(probe.running.simulation.notifier)
        assert (counts["elsewhere"], counts["sent"]) == (1, 0)


@pytest.mark.parametrize(
    ("address", "outcome"),
    [
        ("http://name:word@127.0.0.1:9/", "dropped"),
        ("http://127.0.0.1:99999/", "dropped"),
        ("http://[::1", "elsewhere"),
        ("http://127.0.0.1.example.com/", "elsewhere"),
        ("nowhere", "elsewhere"),
    ],
)
async def test_an_address_that_nothing_can_be_sent_to_stops_nothing(address: str, outcome: str) -> None:
    async with probing(notify_url=address, notify_retry_scale=1e-6) as probe:
        happen(probe, "delete_product")
        counts = await settled(probe.running.simulation.notifier)
        assert (counts[outcome], counts["delivered"]) == (1, 0)


async def test_the_simulator_closes_while_notifications_are_under_way() -> None:
    async with receiving() as receiver:
        receiver.hold.clear()
        async with probing(notify_url=receiver.url) as probe:
            happen(probe, "place_order", 150)
            await receiver.wait_for(200)
            notifier = probe.running.simulation.notifier
            assert notifier.summary()["waiting"]
        assert [notifier.summary()[name] for name in ("in_flight", "waiting", "delivered")] == [0, 0, 0]
