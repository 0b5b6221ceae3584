"""The sliding second of the rate limit, and what the statistics remember of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.simulator_probe import ORDERS, SHOPS, WAREHOUSES, probing


async def test_the_request_after_the_limit_is_refused() -> None:
    async with probing(limit_per_s=50) as probe:
        answers = await asyncio.gather(*(probe.call("GET", WAREHOUSES) for _ in range(60)))
        refused = [answer for answer in answers if answer.code == 36009002]
        # Sixty requests that are sent together arrive within a second on any machine that can run this.
        assert len(refused) == 10
        assert all(answer.status == 429 and "Retry-After" not in answer.headers for answer in refused)
        stats = await probe.control("GET", "stats")
        assert stats["shops"][probe.shop.shop_id]["worst_second"] == 60
        assert stats["shops"][probe.shop.shop_id]["rate_limited"] == 10


@pytest.mark.parametrize(("retry_after_s", "status"), [(3, 429), (None, 200)])
async def test_how_a_refusal_looks_is_a_choice(retry_after_s: int | None, status: int) -> None:
    async with probing(limit_per_s=1, retry_after_s=retry_after_s, limited_status=status) as probe:
        _, refused = await asyncio.gather(probe.call("GET", WAREHOUSES), probe.call("GET", WAREHOUSES))
        assert (refused.status, refused.code) == (status, 36009002)
        assert refused.headers.get("Retry-After") == (None if retry_after_s is None else str(retry_after_s))


async def test_refused_requests_count_too_and_whatever_else_was_wrong_with_them() -> None:
    async with probing(limit_per_s=3) as probe:
        for _ in range(3):
            assert (await probe.call("GET", WAREHOUSES, secret="wrong")).code == 106001
        assert (await probe.call("GET", WAREHOUSES)).code == 36009002


async def test_one_shop_at_its_limit_leaves_the_others_alone() -> None:
    async with probing(shop=1, shops=3, limit_per_s=2) as probe:
        await asyncio.gather(*(probe.call("GET", WAREHOUSES) for _ in range(5)))
        assert (await probe.call("GET", WAREHOUSES)).code == 36009002
        probe.shop = probe.running.world.shops_of(probe.shop.seller.open_id)[1]
        assert (await probe.call("GET", WAREHOUSES)).code == 0


async def test_statistics_tell_paths_shops_sellers_and_token_calls_apart_and_can_start_anew() -> None:
    async with probing() as probe:
        await probe.call("GET", SHOPS)
        await probe.orders()
        await probe.orders()
        product = next(iter(probe.shop.products))
        await probe.call("GET", f"/product/202309/products/{product}")
        stats = await probe.control("GET", "stats")
        assert stats["requests"] == 5
        assert stats["token_calls"] == 1
        assert stats["shops"][probe.shop.shop_id]["requests"] == 3
        assert stats["shops"][probe.shop.shop_id]["by_path"] == {ORDERS: 2, "/product/202309/products/*": 1}
        assert stats["sellers"][probe.shop.seller.open_id]["by_path"] == {SHOPS: 1}
        await probe.control("POST", "stats/reset")
        again = await probe.control("GET", "stats")
        assert again["requests"] == again["shops"][probe.shop.shop_id]["worst_second"] == 0


async def test_latency_holds_every_answer_back() -> None:
    async with probing(latency_s=0.2, jitter_s=0.05) as probe:
        clock = asyncio.get_running_loop().time
        started = clock()
        await asyncio.gather(*(probe.call("GET", WAREHOUSES) for _ in range(20)))
        assert clock() - started >= 0.2
