"""Every named fault does what its name says, when and where it is asked to."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from tests.integration.simulator_probe import INVENTORY, ORDERS, PRODUCTS, WAREHOUSES, Answer, Probe, probing


async def _add(probe: Probe, fault: str, **wanted: Any) -> None:
    await probe.control("POST", "faults", {"fault": fault, **wanted})


async def _with(fault: str, **wanted: Any) -> Answer:
    async with probing() as probe:
        await _add(probe, fault, **wanted)
        return await probe.orders()


@pytest.mark.parametrize(
    ("fault", "params", "status", "code"),
    [
        ("rate_limited", {}, 429, 36009002),
        ("rate_limited", {"http": 200}, 200, 36009002),
        ("internal_error", {}, 200, 36009003),
        ("internal_error", {"http": 500}, 500, 36009003),
        ("expired_token", {}, 401, 105002),
        ("expired_token", {"http": 200}, 200, 105002),
        ("revoked", {}, 401, 36009004),
        ("revoked", {"code": 101000}, 401, 101000),
        ("scope_missing", {}, 401, 105005),
        ("shop_inactive", {}, 401, 36009043),
        ("shop_inactive", {"code": 36009044}, 401, 36009044),
        ("bad_signature", {}, 401, 106001),
        ("retired_version", {}, 400, 36009014),
        ("ip_denied", {}, 401, 36009033),
        ("hourly_cap", {}, 429, 36009037),
    ],
)
async def test_a_fault_answers_with_its_code(
    fault: str, params: dict[str, Any], status: int, code: int
) -> None:
    answer = await _with(fault, **params)
    assert (answer.status, answer.code) == (status, code)


async def test_a_rate_limit_can_name_the_wait_in_every_form() -> None:
    assert (await _with("rate_limited", retry_after=7)).headers["Retry-After"] == "7"
    assert (await _with("rate_limited", retry_after="presently")).headers["Retry-After"] == "presently"
    dated = (await _with("rate_limited", retry_after=60, form="date")).headers["Retry-After"]
    assert parsedate_to_datetime(dated).timestamp() == pytest.approx(time.time() + 60, abs=3)
    assert "Retry-After" not in (await _with("rate_limited")).headers


@pytest.mark.parametrize(
    ("fault", "params", "status", "body"),
    [
        ("unavailable_html", {}, 503, b"<html>"),
        ("unavailable_html", {"http": 504}, 504, b"<html>"),
        ("html_200", {}, 200, b"<!doctype html>"),
        ("empty_body", {}, 200, b""),
        ("empty_body", {"http": 204}, 204, b""),
        ("not_an_object", {}, 200, b"[]"),
        ("not_an_object", {"text": "12"}, 200, b"12"),
    ],
)
async def test_a_fault_answers_with_something_else_than_an_envelope(
    fault: str, params: dict[str, Any], status: int, body: bytes
) -> None:
    answer = await _with(fault, **params)
    assert answer.status == status
    assert answer.raw.startswith(body)
    assert bool(answer.raw) is bool(body)


async def test_null_data_is_a_success_without_data() -> None:
    answer = await _with("null_data")
    assert (answer.code, answer.data) == (0, None)


async def test_a_redirect_points_to_another_host() -> None:
    answer = await _with("redirect", location="https://elsewhere.example/x")
    assert (answer.status, answer.headers["Location"]) == (302, "https://elsewhere.example/x")


async def test_a_lost_page_token_refuses_only_requests_that_carry_one() -> None:
    async with probing() as probe:
        await _add(probe, "lost_page_token")
        first = await probe.orders()
        assert first.code == 0
        second = await probe.orders(page_token=first.data["next_page_token"])
        assert (second.status, second.code) == (400, 36009004)
        assert "page_token" in second.json["message"]


async def test_a_repeated_token_leads_nowhere_from_the_second_page_on() -> None:
    async with probing(orders=200) as probe:
        await _add(probe, "repeated_token")
        token = (await probe.orders(page_size="50")).data["next_page_token"]
        second = (await probe.orders(page_size="50", page_token=token)).data
        assert second["next_page_token"] == token
        assert len(second["orders"]) == 50


async def test_an_empty_page_has_a_token_and_asking_again_gives_the_rows() -> None:
    async with probing(orders=200) as probe:
        await _add(probe, "empty_page_with_token", after=1, times=1)
        token = (await probe.orders(page_size="50")).data["next_page_token"]
        empty = (await probe.orders(page_size="50", page_token=token)).data
        assert (empty["orders"], empty["total_count"]) == ([], 200)
        assert empty["next_page_token"]
        assert len((await probe.orders(page_size="50", page_token=token)).data["orders"]) == 50


async def test_the_total_count_can_be_absent_wrong_or_negative() -> None:
    assert "total_count" not in (await _with("total_count_absent")).data
    assert (await _with("total_count_wrong", delta=-3)).data["total_count"] == 117
    assert (await _with("total_count_negative")).data["total_count"] == -1


async def test_a_null_list_keeps_the_rest_of_the_page() -> None:
    data = (await _with("null_list")).data
    assert (data["orders"], data["total_count"]) == (None, 120)


async def test_rows_can_come_twice_or_not_at_all() -> None:
    twice = [order["id"] for order in (await _with("duplicate_rows", count=2)).data["orders"]]
    assert len(twice) == 102
    assert twice[:2] == twice[100:]
    async with probing() as probe:
        some = (await probe.truth("orders"))[50]["id"]
        await _add(probe, "hidden_row", id=some)
        found = await probe.walk(ORDERS, "orders", body={}, page_size="50")
        assert len(found) == 119
        assert some not in {order["id"] for order in found}
        assert (await probe.orders()).data["total_count"] == 120


async def test_an_ignored_page_size_still_walks_to_the_end() -> None:
    async with probing() as probe:
        await _add(probe, "page_size_ignored", size=7)
        assert len((await probe.orders(page_size="100")).data["orders"]) == 7
        assert len(await probe.walk(ORDERS, "orders", body={}, page_size="100")) == 120


@pytest.mark.parametrize(
    ("fault", "params", "sign"),
    [
        ("record_with_nul", {}, rb'"before\u0000after"'),
        ("record_with_surrogate", {}, rb'"before\ud800after"'),
        ("record_with_bad_utf8", {}, b"before\xff\xfeafter"),
        ("record_with_nan", {}, b":NaN"),
        ("record_huge_number", {"digits": 5000}, b"9" * 5000),
        ("record_deeply_nested", {"depth": 3000}, b"[" * 3000),
        ("record_type_change", {}, b'"not what it was"'),
        ("record_null_update_time", {}, b'"update_time":null'),
    ],
)
@pytest.mark.parametrize("key", ["orders", "products", "inventory", "warehouses"])
async def test_a_record_fault_spoils_exactly_the_record_it_is_told(
    fault: str, params: dict[str, Any], sign: bytes, key: str
) -> None:
    async with probing(products=12) as probe:
        truth = [one for one in await probe.truth(key) if one.get("status") != "DELETED"]
        victim = str(truth[1].get("id") or truth[1].get("product_id"))
        path, method, body = {
            "orders": (ORDERS, "POST", {}),
            "products": (PRODUCTS, "POST", {}),
            "inventory": (INVENTORY, "POST", {"product_ids": [one.get("product_id") for one in truth]}),
            "warehouses": (WAREHOUSES, "GET", None),
        }[key]
        query = {"page_size": "100"} if key in ("orders", "products") else {}
        if key == "orders":
            query |= {"sort_order": "ASC"}
        clean = (await probe.call(method, path, query=query, body=body)).raw
        await _add(probe, fault, id=victim, **params)
        spoiled = (await probe.call(method, path, query=query, body=body)).raw
        assert sign not in clean
        assert spoiled.count(sign) == 1
        records = spoiled.split(b'{"code":0')[-1]
        assert victim.encode() in records


async def test_a_record_can_lose_its_id() -> None:
    data = (await _with("record_without_id")).data
    assert [place for place, order in enumerate(data["orders"]) if "id" not in order] == [50]


async def test_a_truncated_body_is_cut_json_of_its_announced_length() -> None:
    answer = await _with("truncated_body")
    assert int(answer.headers["Content-Length"]) == len(answer.raw)
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


async def test_a_wrong_content_type_leaves_the_body_good() -> None:
    answer = await _with("wrong_content_type")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.code == 0


async def test_a_reset_breaks_the_body_off() -> None:
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await _with("reset_mid_body")


async def test_slow_and_dripping_answers_take_their_time_and_are_complete() -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    assert (await _with("slow", seconds=0.3)).code == 0
    assert clock() - started >= 0.3
    async with probing(orders=4) as probe:
        await _add(probe, "slow_drip", chunk_bytes=4_000, pause_s=0.05)
        started = clock()
        answer = await probe.orders()
        assert answer.code == 0
        assert clock() - started >= len(answer.raw) // 4_000 * 0.05


async def test_a_hanging_request_gets_no_answer() -> None:
    async with probing() as probe:
        await _add(probe, "hang")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(probe.orders(), 0.3)


async def test_a_huge_body_is_a_valid_answer_of_that_size() -> None:
    answer = await _with("huge_body", mib=3)
    assert len(answer.raw) > 3 << 20
    assert len(answer.data["orders"]) == 100


async def test_a_gzip_bomb_is_small_on_the_wire() -> None:
    async with probing() as probe:
        await _add(probe, "gzip_bomb", mib=20)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as plain,
            plain.post(probe.running.url + ORDERS) as response,
        ):
            packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
        assert len(packed) < 200_000
        assert len(gzip.decompress(packed)) > 20 << 20


async def test_a_skewed_clock_shows_in_the_date_and_in_the_timestamp_check() -> None:
    async with probing() as probe:
        await _add(probe, "clock_skew", seconds=400)
        answer = await probe.orders()
        assert (answer.code, "earlier than 5 minutes" in answer.json["message"]) == (36009004, True)
        server = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert server == pytest.approx(time.time() + 400, abs=3)
        assert (await probe.orders(timestamp=str(int(server)))).code == 0
