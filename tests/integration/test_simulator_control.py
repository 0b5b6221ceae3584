"""Truth, mutations and settings while the server runs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.integration.simulator_probe import ORDERS, PRODUCTS, probing


async def test_the_summary_counts_what_the_truth_holds() -> None:
    async with probing(products=60) as probe:
        truth = await probe.control("GET", "truth")
        assert truth["app"]["key"] == probe.running.options.app_key
        (shop,) = truth["shops"]
        inventory = await probe.truth("inventory")
        assert shop["orders"] == len(await probe.truth("orders"))
        assert shop["products"] == len(await probe.truth("products"))
        assert shop["products"] - shop["deleted_products"] == len(inventory)
        assert shop["skus"] == sum(len(one["skus"]) for one in inventory)
        assert shop["inventory"] == sum(
            len(sku["warehouse_inventory"]) for one in inventory for sku in one["skus"]
        )
        assert shop["warehouses"] == len(await probe.truth("warehouses"))


@pytest.mark.parametrize("query", ["shop_id=1&stream=orders", "stream=orders", "shop_id=1&stream=dreams"])
async def test_the_truth_of_nothing_is_not_found(query: str) -> None:
    async with probing() as probe:
        assert (await probe.send("GET", f"/_sim/truth?{query}")).status == 404


async def test_the_api_answers_what_the_truth_says_after_many_mutations() -> None:
    async with probing(orders=300, products=40) as probe:
        done = await probe.control("POST", "mutate", {"count": 3_000})
        assert done["done"] == 3_000
        orders = await probe.walk(ORDERS, "orders", body={}, page_size="100")
        assert {one["id"]: one for one in orders} == {one["id"]: one for one in await probe.truth("orders")}
        products = await probe.walk(PRODUCTS, "products", body={}, page_size="100")
        products += await probe.walk(PRODUCTS, "products", body={"status": "DELETED"}, page_size="100")
        assert {one["id"]: one for one in products} == {
            one["id"]: one for one in await probe.truth("products")
        }
        counts = (await probe.control("GET", "stats"))["mutations"]["done"]
        assert set(counts) == {
            "advance_order", "place_order", "cancel_order", "move_stock", "edit_product", "create_product",
            "change_skus", "delete_product",
        }  # fmt: skip
        assert counts["advance_order"] > counts["edit_product"] > counts["delete_product"]


async def test_stock_stays_whole_through_all_mutations() -> None:
    async with probing(orders=300, products=40) as probe:
        await probe.control("POST", "mutate", {"count": 3_000})
        stock = [
            level
            for one in await probe.truth("inventory")
            for sku in one["skus"]
            for level in sku["warehouse_inventory"]
        ]
        assert all(level["available_quantity"] >= 0 and level["committed_quantity"] >= 0 for level in stock)
        waiting: dict[tuple[str, str], int] = {}
        for order in await probe.truth("orders"):
            if order["status"] in (
                "UNPAID",
                "ON_HOLD",
                "AWAITING_SHIPMENT",
                "PARTIALLY_SHIPPING",
                "AWAITING_COLLECTION",
            ):
                for line in order["line_items"]:
                    key = (line["sku_id"], order["warehouse_id"])
                    waiting[key] = waiting.get(key, 0) + 1
        for one in await probe.truth("inventory"):
            for sku in one["skus"]:
                for level in sku["warehouse_inventory"]:
                    assert level["committed_quantity"] == waiting.get((sku["id"], level["warehouse_id"]), 0)


async def test_a_moved_stock_changes_the_product_but_not_its_time() -> None:
    async with probing() as probe:
        before = {one["id"]: one for one in await probe.truth("products")}
        for _ in range(20):
            probe.running.simulation.mutations.move_stock(probe.shop)
        after = {one["id"]: one for one in await probe.truth("products")}
        changed = [name for name in before if before[name] != after[name]]
        assert changed
        assert all(before[name]["update_time"] == after[name]["update_time"] for name in changed)


@pytest.mark.parametrize("kind", ["edit_product", "change_skus", "delete_product", "create_product"])
async def test_every_change_of_a_product_moves_its_time(kind: str) -> None:
    async with probing() as probe:
        before = {one["id"]: one for one in await probe.truth("products")}
        started = int(time.time())
        while not getattr(probe.running.simulation.mutations, kind)(probe.shop):
            pass
        after = {one["id"]: one for one in await probe.truth("products")}
        (changed,) = [one for name, one in after.items() if before.get(name) != one]
        assert changed["update_time"] >= started


async def test_mutations_run_at_a_rate_and_stop_when_the_reply_says_so() -> None:
    async with probing() as probe:
        await probe.control("POST", "mutate", {"per_second": 400})
        while sum(probe.running.simulation.mutations.counts.values()) < 100:
            await asyncio.sleep(0.01)
        assert (await probe.control("POST", "mutate", {"per_second": 0}))["per_second"] == 0
        stopped = probe.running.simulation.mutations.counts.copy()
        await asyncio.sleep(0.1)
        assert probe.running.simulation.mutations.counts == stopped


async def test_a_change_is_seen_only_after_the_visibility_lag() -> None:
    async with probing(visibility_lag_s=30.0) as probe:
        before = await probe.walk(ORDERS, "orders", body={}, page_size="100")
        probe.running.simulation.mutations.place_order(probe.shop)
        assert probe.running.simulation.mutations.advance_order(probe.shop)
        assert await probe.walk(ORDERS, "orders", body={}, page_size="100") == before
        assert len(await probe.truth("orders")) == 121
        probe.shop.orders.settle(time.time() + 31)
        after = await probe.walk(ORDERS, "orders", body={}, page_size="100")
        assert {one["id"]: one for one in after} == {one["id"]: one for one in await probe.truth("orders")}


async def test_settings_change_at_once_and_wrong_ones_are_refused() -> None:
    async with probing() as probe:
        assert (await probe.control("POST", "settings", {"product_cap": 5}))["product_cap"] == 5
        assert (await probe.products()).code == 12052180
        for wrong in ({"product_cap": "many"}, {"colour": 1}, {"app_secret": "x"}, {"paging": "random"}):
            answer = await probe.send("POST", "/_sim/settings", raw=json.dumps(wrong).encode())
            assert answer.status == 400
            assert answer.json["error"]
        assert probe.running.options.product_cap == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("POST", "sellers/1/revoke", None, 404),
        ("POST", "shops/1/deactivate", None, 404),
        ("POST", "mutate", {"count": -1}, 400),
        ("POST", "mutate", {"per_second": "fast"}, 400),
        ("POST", "mutate", [1], 400),
    ],
)
async def test_impossible_control_requests_are_refused(
    method: str, path: str, body: Any, status: int
) -> None:
    async with probing() as probe:
        raw = b"" if body is None else json.dumps(body).encode()
        answer = await probe.send(method, f"/_sim/{path}", raw=raw)
        assert answer.status == status
        assert answer.json["error"]
