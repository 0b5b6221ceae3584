"""Parameters, bounds and orders of the searches, held against the simulator's own truth."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.simulator_probe import INVENTORY, ORDERS, PRODUCTS, WAREHOUSES, Probe, probing

DETAIL = "/order/202507/orders"


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": "0"},
        {"page_size": "101"},
        {"page_size": "-1"},
        {"page_size": "ten"},
        {"page_size": None},
        {"sort_field": "id"},
        {"sort_order": "asc"},
    ],
)
async def test_order_search_refuses_query_parameters_out_of_range(query: dict[str, str | None]) -> None:
    async with probing() as probe:
        answer = await probe.orders(**query)
        assert (answer.status, answer.code) == (400, 36009004)
        assert "invalid param" in answer.json["message"]
        assert next(iter(query)) in answer.json["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"update_time_ge": "1700000000"}, 36009004),
        ({"update_time_ge": -1}, 36009004),
        ({"update_time_ge": 200, "update_time_lt": 100}, 36009004),
        ({"create_time_lt": 1.5}, 36009004),
        ({"order_status": "SHIPPED"}, 36009004),
        ({"shipping_type": "BOAT"}, 36009004),
        ({"warehouse_ids": ["1"] * 101}, 36009004),
        ({"is_buyer_request_cancel": "yes"}, 36009004),
        (b"[]", 36009022),
        (b"{", 36009022),
    ],
)
async def test_order_search_refuses_wrong_filters(body: object, code: int) -> None:
    async with probing() as probe:
        answer = await probe.orders(body)
        assert (answer.status, answer.code) == (400, code)


async def test_unknown_filters_are_ignored_and_an_absent_body_is_an_empty_one() -> None:
    async with probing() as probe:
        assert (await probe.orders({"colour": "blue"})).data["total_count"] == 120
        assert (await probe.orders(b"")).data["total_count"] == 120


async def test_page_sizes_out_of_range_can_be_clamped_instead() -> None:
    async with probing(page_size_mode="clamp") as probe:
        assert len((await probe.orders(page_size="1000")).data["orders"]) == 100
        assert len((await probe.products(page_size="0")).data["products"]) == 1


@pytest.mark.parametrize("field", ["update_time", "create_time"])
async def test_order_times_are_closed_below_and_open_above(field: str) -> None:
    async with probing() as probe:
        truth = await probe.truth("orders")
        times = sorted(order[field] for order in truth)
        low, high = times[30], times[90]
        answer = await probe.orders({f"{field}_ge": low, f"{field}_lt": high}, sort_field=field)
        expected = {order["id"] for order in truth if low <= order[field] < high}
        assert {order["id"] for order in answer.data["orders"]} == expected
        assert answer.data["total_count"] == len(expected)


async def test_a_missing_end_means_now_and_excludes_this_second() -> None:
    async with probing() as probe:
        since = {"update_time_ge": int(time.time()) - 5}
        started = finished = 0
        while started != finished or not started:
            started = int(time.time())
            probe.running.simulation.mutations.place_order(probe.shop)
            placed = str(max(probe.shop.orders.newest))
            shown = {order["id"] for order in (await probe.orders(since)).data["orders"]}
            finished = int(time.time())
        assert placed not in shown
        await probe.control("POST", "faults", {"fault": "clock_skew", "seconds": 2})
        assert placed in {order["id"] for order in (await probe.orders(since)).data["orders"]}


async def test_orders_come_newest_first_by_creation_unless_asked_otherwise() -> None:
    async with probing() as probe:
        truth = await probe.truth("orders")
        plain = await probe.walk(ORDERS, "orders", body={}, page_size="50")
        by_creation = sorted(truth, key=lambda order: (order["create_time"], order["id"]), reverse=True)
        assert [order["id"] for order in plain] == [order["id"] for order in by_creation]
        ascending = await probe.walk(
            ORDERS, "orders", body={}, page_size="50", sort_field="update_time", sort_order="ASC"
        )
        by_update = sorted(truth, key=lambda order: (order["update_time"], order["id"]))
        assert ascending == by_update


@pytest.mark.parametrize(
    ("name", "field"),
    [("order_status", "status"), ("shipping_type", "shipping_type"), ("buyer_user_id", "user_id")],
)
async def test_every_other_order_filter_chooses_exactly_its_rows(name: str, field: str) -> None:
    async with probing() as probe:
        truth = await probe.truth("orders")
        wanted = truth[0][field]
        found = await probe.walk(ORDERS, "orders", body={name: wanted}, page_size="7")
        assert {order["id"] for order in found} == {order["id"] for order in truth if order[field] == wanted}


async def test_warehouse_cancel_and_both_times_can_be_combined() -> None:
    async with probing(orders=400) as probe:
        truth = await probe.truth("orders")
        times = sorted(order["create_time"] for order in truth)
        body: dict[str, Any] = {
            "warehouse_ids": [truth[0]["warehouse_id"]],
            "is_buyer_request_cancel": False,
            "create_time_ge": times[50],
            "update_time_lt": int(time.time()) - 86_400,
        }
        found = await probe.walk(ORDERS, "orders", body=body, page_size="9", sort_field="update_time")
        expected = {
            order["id"]
            for order in truth
            if order["warehouse_id"] == truth[0]["warehouse_id"]
            and not order["is_buyer_request_cancel"]
            and order["create_time"] >= times[50]
            and order["update_time"] < body["update_time_lt"]
        }
        assert {order["id"] for order in found} == expected
        assert 0 < len(expected) < 400


@pytest.mark.parametrize("ids", ["", "abc", ",".join(str(n) for n in range(51))])
async def test_order_detail_wants_one_to_fifty_ids(ids: str) -> None:
    async with probing() as probe:
        assert (await probe.call("GET", DETAIL, query={"ids": ids})).code == 36009004


async def test_order_detail_leaves_out_strangers_and_adds_the_payment_method() -> None:
    async with probing() as probe:
        first = (await probe.truth("orders"))[0]
        answer = await probe.call("GET", DETAIL, query={"ids": f"{first['id']},1"})
        (order,) = answer.data["orders"]
        assert order.items() >= first.items()
        assert set(order) - set(first) == {"payment_card_type", "payment_method_code"}


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ({"page_size": "101"}, {}, 12019109),
        ({"page_size": None}, {}, 12019109),
        ({}, {"seller_skus": ["x"] * 11}, 12019027),
        ({}, {"sku_ids": ["1"] * 11}, 12019087),
        ({}, {"create_time_ge": "soon"}, 12019118),
        ({}, {"update_time_le": -1}, 12019119),
        ({}, {"update_time_ge": 9, "update_time_le": 8}, 12019119),
        ({}, {"status": "LIVE"}, 12052910),
        ({}, {"listing_platforms": ["TOKOPEDIA"]}, 12052910),
    ],
)
async def test_product_search_has_codes_of_its_own(
    query: dict[str, str | None], body: dict[str, Any], code: int
) -> None:
    async with probing() as probe:
        answer = await probe.products(body, **query)
        assert (answer.status, answer.code) == (200, code)


@pytest.mark.parametrize("field", ["update_time", "create_time"])
async def test_product_times_are_closed_at_both_ends(field: str) -> None:
    async with probing(products=60) as probe:
        truth = [one for one in await probe.truth("products") if one["status"] != "DELETED"]
        times = sorted(one[field] for one in truth)
        low, high = times[10], times[40]
        answer = await probe.products({f"{field}_ge": low, f"{field}_le": high})
        expected = {one["id"] for one in truth if low <= one[field] <= high}
        assert {one["id"] for one in answer.data["products"]} == expected
        assert any(one[field] == high for one in answer.data["products"])


async def test_deleted_products_are_listed_only_when_asked_for() -> None:
    async with probing(products=60) as probe:
        truth = await probe.truth("products")
        gone = {one["id"] for one in truth if one["status"] == "DELETED"}
        assert gone
        everything = {one["id"] for one in await probe.walk(PRODUCTS, "products", body={}, page_size="100")}
        assert everything == {one["id"] for one in truth} - gone
        deleted = await probe.walk(PRODUCTS, "products", body={"status": "DELETED"}, page_size="100")
        assert {one["id"] for one in deleted} == gone
        probe.running.change_options(all_includes_deleted=True)
        assert (await probe.products()).data["total_count"] == len(truth)


async def test_products_are_found_by_sku_and_seller_code() -> None:
    async with probing(products=40) as probe:
        product = next(one for one in await probe.truth("products") if one["skus"][0]["seller_sku"])
        by_id = await probe.products({"sku_ids": [product["skus"][0]["id"]]})
        assert [one["id"] for one in by_id.data["products"]] == [product["id"]]
        by_code = await probe.products({"seller_skus": [product["skus"][0]["seller_sku"]]})
        assert product["id"] in {one["id"] for one in by_code.data["products"]}


async def test_more_products_than_the_cap_are_refused_until_the_search_is_narrower() -> None:
    async with probing(products=30, product_cap=20) as probe:
        answer = await probe.products()
        assert (answer.code, answer.data) == (12052180, None)
        assert "10000" not in answer.json["message"]
        updated = sorted(one["update_time"] for one in await probe.truth("products"))
        assert (await probe.products({"update_time_ge": updated[15]})).code == 0


async def test_frozen_deleted_and_unknown_products_cannot_be_read_singly() -> None:
    async with probing(products=80) as probe:
        path = "/product/202309/products/"
        truth = {one["status"]: one["id"] for one in await probe.truth("products")}
        assert (await probe.call("GET", path + truth["ACTIVATE"])).data["id"] == truth["ACTIVATE"]
        for status in ("DELETED", "FREEZE"):
            assert (await probe.call("GET", path + truth[status])).code == 12052901
        assert (await probe.call("GET", path + "12345")).code == 12019150
        both = {"return_under_review_version": "true", "return_draft_version": "true"}
        assert (await probe.call("GET", path + truth["ACTIVATE"], query=both)).code == 12052910


async def _inventory(probe: Probe, body: object) -> Any:
    return await probe.call("POST", INVENTORY, body=body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 12019008),
        ({"product_ids": [1]}, 12019008),
        ({"product_ids": ["1"] * 101}, 12019120),
        ({"sku_ids": ["1"] * 601}, 12019015),
    ],
)
async def test_inventory_search_keeps_its_limits(body: dict[str, Any], code: int) -> None:
    async with probing() as probe:
        assert (await _inventory(probe, body)).code == code


async def test_sku_ids_win_over_product_ids_and_unknown_ids_are_left_out() -> None:
    async with probing(products=30) as probe:
        truth = await probe.truth("inventory")
        first, second = [one for one in truth if len(one["skus"]) > 1][:2]
        wanted = first["skus"][1]
        answer = await _inventory(
            probe, {"sku_ids": [wanted["id"], "1"], "product_ids": [second["product_id"]]}
        )
        assert answer.data["inventory"] == [{"product_id": first["product_id"], "skus": [wanted]}]
        whole = await _inventory(probe, {"product_ids": [second["product_id"], "1"]})
        assert whole.data["inventory"] == [second]


async def test_warehouses_that_do_not_exist_leave_no_list_behind() -> None:
    async with probing() as probe:
        assert len((await probe.call("GET", WAREHOUSES)).data["warehouses"]) == 3
        probe.shop.warehouses.clear()
        assert (await probe.call("GET", WAREHOUSES)).data == {}
