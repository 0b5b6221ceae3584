"""Page tokens over data that moves while it is read."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.integration.simulator_probe import ORDERS, PRODUCTS, Probe, probing

_FIRST = {"page_size": "40", "sort_field": "update_time", "sort_order": "ASC"}


async def _token(probe: Probe, body: object = None, **query: str) -> str:
    answer = await probe.orders(body, **(_FIRST | query))
    return str(answer.data["next_page_token"])


async def _walk_with(probe: Probe, between: Any) -> tuple[list[str], list[int]]:
    """Ids and totals of a walk during which ``between`` is called after every page."""
    ids: list[str] = []
    totals: list[int] = []
    token: str | None = None
    while True:
        page = (await probe.orders(**(_FIRST | {"page_token": token}))).data
        ids += [order["id"] for order in page["orders"]]
        totals.append(page["total_count"])
        token = page.get("next_page_token") or None
        if token is None:
            return ids, totals
        between()


def _update_first(probe: Probe) -> None:
    """The row with the oldest change of all changes now, so it leaves its place for the end."""
    shop = probe.shop
    _, row_id = shop.orders.ordered("update_time")[0]
    shop.open_orders[:] = [row_id]
    row = shop.orders.newest[row_id]
    # A finished order has no next state; give it one to leave.
    body = row.body.replace(b'"status":"%b"' % row.status.encode(), b'"status":"DELIVERED"')
    shop.orders.newest[row_id] = type(row)(row_id, body, "DELIVERED", row.create_time, row.update_time)
    assert probe.running.simulation.mutations.advance_order(shop)


async def test_order_tokens_look_encrypted_and_hold_a_plus_and_a_slash() -> None:
    async with probing() as probe:
        for _ in range(5):
            token = await _token(probe)
            assert {"+", "/"} <= set(token)
            assert b"offset" not in base64.b64decode(token)


async def test_product_tokens_are_base64_of_an_offset() -> None:
    async with probing(products=30) as probe:
        page = (await probe.products(page_size="10")).data
        assert base64.b64decode(page["next_page_token"]) == b"offset=10\n"


async def test_the_last_page_has_an_empty_token_or_none_at_all() -> None:
    async with probing() as probe:
        answers = [(await probe.orders({"order_status": "UNPAID"})).data for _ in range(40)]
        assert {answer.get("next_page_token", "absent") for answer in answers} == {"", "absent"}


@pytest.mark.parametrize("mode", ["offset", "keyset", "snapshot"])
async def test_quiet_data_is_read_whole_in_every_paging_mode(mode: str) -> None:
    async with probing(paging=mode) as probe:
        for order in ("ASC", "DESC"):
            found = await probe.walk(
                ORDERS, "orders", body={}, page_size="7", sort_field="update_time", sort_order=order
            )
            assert len(found) == 120
            assert {one["id"] for one in found} == {one["id"] for one in await probe.truth("orders")}
        products = await probe.walk(PRODUCTS, "products", body={}, page_size="7")
        assert len({one["id"] for one in products}) == (await probe.products()).data["total_count"]


async def test_a_row_that_leaves_its_place_hides_another_one_from_an_offset_walk() -> None:
    async with probing() as probe:
        ids, totals = await _walk_with(probe, lambda: _update_first(probe))
        everything = {order["id"] for order in await probe.truth("orders")}
        assert everything - set(ids)
        assert len(ids) > len(set(ids))
        assert totals == [120, 120, 120]


async def test_a_row_that_leaves_the_asked_window_lowers_the_live_total() -> None:
    async with probing() as probe:
        newest = max(order["update_time"] for order in await probe.truth("orders"))
        window = {"update_time_lt": newest + 1}
        assert (await probe.orders(window)).data["total_count"] == 120
        _update_first(probe)
        assert (await probe.orders(window)).data["total_count"] == 119


@pytest.mark.parametrize("mode", ["keyset", "snapshot"])
async def test_kinder_paging_modes_lose_no_row_that_stays(mode: str) -> None:
    async with probing(paging=mode) as probe:
        ids, _ = await _walk_with(probe, lambda: _update_first(probe))
        assert {order["id"] for order in await probe.truth("orders")} == set(ids)


@pytest.mark.parametrize(
    "bad",
    ["not a token", "AAAA", "b2Zmc2V0PTAK", "x" * 80],
)
async def test_a_made_up_page_token_is_refused(bad: str) -> None:
    async with probing() as probe:
        answer = await probe.orders(**(_FIRST | {"page_token": bad}))
        assert (answer.status, answer.code) == (400, 36009004)
        assert "invalid param" in answer.json["message"]
        assert "page_token" in answer.json["message"]


async def test_a_token_fits_only_the_search_it_came_from() -> None:
    async with probing(shop=1, shops=3) as probe:
        token = await _token(probe)
        assert (await probe.orders(**(_FIRST | {"page_token": token}))).code == 0
        assert (await probe.orders(**(_FIRST | {"page_token": token, "page_size": "11"}))).code == 0
        assert (await probe.orders(**(_FIRST | {"page_token": token, "sort_order": "DESC"}))).code == 36009004
        assert (
            await probe.orders({"update_time_ge": 5}, **(_FIRST | {"page_token": token}))
        ).code == 36009004
        probe.shop = probe.running.world.shops_of(probe.shop.seller.open_id)[1]
        assert (await probe.orders(**(_FIRST | {"page_token": token}))).code == 36009004


async def test_page_tokens_can_be_given_an_end() -> None:
    async with probing(page_token_life_s=-1.0) as probe:
        token = await _token(probe)
        assert (await probe.orders(**(_FIRST | {"page_token": token}))).code == 36009004


@pytest.mark.parametrize(
    ("mode", "path", "outcome"),
    [
        ("empty", ORDERS, "nothing"),
        ("first", ORDERS, "first page"),
        ("endpoint_code", ORDERS, "36009004"),
        ("endpoint_code", PRODUCTS, "12019108"),
    ],
)
async def test_what_a_bad_token_gets_is_a_choice(mode: str, path: str, outcome: str) -> None:
    async with probing(bad_page_token=mode) as probe:
        query = {"page_size": "10", "page_token": "rubbish"}
        answer = await probe.call("POST", path, query=query, body={})
        if outcome == "nothing":
            assert answer.data["orders"] == []
        elif outcome == "first page":
            first = await probe.call("POST", path, query={"page_size": "10"}, body={})
            assert answer.data["orders"] == first.data["orders"]
        else:
            assert answer.code == int(outcome)


async def test_products_drift_under_an_offset_walk_too() -> None:
    async with probing(products=30) as probe:
        first = (await probe.products(page_size="10")).data
        probe.running.simulation.mutations.create_product(probe.shop)
        second = (await probe.products(page_size="10", page_token=first["next_page_token"])).data
        assert first["products"][-1]["id"] == second["products"][0]["id"]
        assert second["total_count"] == first["total_count"] + 1
