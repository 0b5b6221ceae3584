"""The PyPI client tiktok-shop-api, as it is installed, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tiktok_shop_api.auth import AsyncTikTokShopAuth
from tiktok_shop_api.client import AsyncTikTokShop
from tiktok_shop_api.errors import TikTokShopError

from tests.integration.simulator_probe import Probe, probing
from tests.third_party import MODELS, models

pytestmark = MODELS

# The old reverse flow, which cancellations and returns have superseded.
_UNNAMED_BY_THE_DOCUMENTS = {"REVERSE_STATUS_UPDATE"}


@asynccontextmanager
async def _client(probe: Probe, **overrides: str) -> AsyncIterator[Any]:
    """The client; untyped, since its models let every field be unset and each read would need a check."""
    options = probe.running.options
    client = AsyncTikTokShop(
        options.app_key,
        overrides.get("app_secret", options.app_secret),
        overrides.get("access_token", probe.token),
        overrides.get("shop_cipher", probe.shop.cipher),
        base_url=probe.running.url,
    )
    async with client:
        yield client


async def _code_of(call: Any) -> int:
    with pytest.raises(TikTokShopError) as raised:
        await call
    return raised.value.code


async def _all_orders(client: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    more: dict[str, str] = {}
    while True:
        page = await client.orders.get_order_list(
            page_size=50,
            sort_field=models().GetOrderListSortField.UPDATE_TIME,
            sort_order=models().GetOrderListSortOrder.ASC,
            body=models().GetOrderListRequest(),
            **more,
        )
        found |= {order.id: order.to_dict() for order in page.data.orders}
        if not page.data.next_page_token:
            return found
        more = {"page_token": page.data.next_page_token}


async def test_it_exchanges_a_code_and_refreshes_the_token() -> None:
    async with probing() as probe:
        options = probe.running.options
        auth = AsyncTikTokShopAuth(options.app_key, options.app_secret, base_url=probe.running.url)
        code = probe.running.sellers()[0].code
        first = await auth.exchange_code(code)
        second = await auth.refresh(first.refresh_token)
        assert second.open_id == probe.shop.seller.open_id
        assert {first.access_token, first.refresh_token}.isdisjoint(
            {second.access_token, second.refresh_token}
        )
        assert second.granted_scopes is not None
        assert "seller.order.info" in second.granted_scopes
        assert await _code_of(auth.exchange_code(code)) == 36004004
        assert await _code_of(auth.refresh(first.refresh_token)) == 36004005


async def test_it_lists_every_shop_of_a_seller_with_its_cipher() -> None:
    async with probing(shop=1, shops=3) as probe, _client(probe) as client:
        listed = await client.authorization.get_authorized_shops()
        own = probe.running.world.shops_of(probe.shop.seller.open_id)
        assert [(shop.id, shop.cipher, shop.region) for shop in listed.data.shops] == [
            (shop.shop_id, shop.cipher, shop.market.region) for shop in own
        ]
        assert len(own) == 2
        assert len((await client.seller.get_active_shops()).data.shops) == 2


@pytest.mark.parametrize("shop", range(8))
async def test_it_reads_orders_of_every_market_over_all_pages_as_they_truly_are(shop: int) -> None:
    async with probing(shop=shop, shops=8, orders=260) as probe, _client(probe) as client:
        found = await _all_orders(client)
        truth = {order["id"]: order for order in await probe.truth("orders")}
        assert len(truth) == 260
        assert found == truth


async def test_it_reads_order_details() -> None:
    async with probing() as probe, _client(probe) as client:
        wanted = [order["id"] for order in (await probe.truth("orders"))[:50]]
        # Given a list, this client repeats the parameter; the platform documents one comma-joined value.
        answered = await client.orders.get_order_detail(ids=",".join(wanted))
        assert [order.id for order in answered.data.orders] == wanted


@pytest.mark.parametrize("shop", range(8))
async def test_it_reads_products_of_every_market_over_all_pages_as_they_truly_are(shop: int) -> None:
    async with probing(shop=shop, shops=8, orders=40, products=70) as probe, _client(probe) as client:
        found: dict[str, dict[str, Any]] = {}
        for status in (
            models().SearchProductsRequestStatus.ALL,
            models().SearchProductsRequestStatus.DELETED,
        ):
            more: dict[str, str] = {}
            while True:
                page = await client.products.search_products(
                    page_size=25, body=models().SearchProductsRequest(status=status), **more
                )
                found |= {product.id: product.to_dict() for product in page.data.products}
                if not page.data.next_page_token:
                    break
                more = {"page_token": page.data.next_page_token}
        assert found == {product["id"]: product for product in await probe.truth("products")}


async def test_it_reads_single_products_in_their_long_form() -> None:
    async with probing(shops=3, shop=2) as probe, _client(probe) as client:
        live = next(one for one in await probe.truth("products") if one["status"] == "ACTIVATE")
        product = (await client.products.get_product(product_id=live["id"])).data
        assert (product.title, len(product.skus)) == (live["title"], len(live["skus"]))
        assert product.main_images[0].urls
        assert await _code_of(client.products.get_product(product_id="1729592969712299999")) == 12019150


async def test_it_reads_inventory_and_warehouses_as_they_truly_are() -> None:
    async with probing() as probe, _client(probe) as client:
        truth = await probe.truth("inventory")
        asked = models().InventorySearchRequest(product_ids=[one["product_id"] for one in truth])
        answered = await client.products.inventory_search(body=asked)
        assert [one.to_dict() for one in answered.data.inventory] == truth
        warehouses = (await client.logistics.get_warehouse_list()).data.warehouses
        assert [one.to_dict() for one in warehouses] == await probe.truth("warehouses")


async def test_it_meets_the_documented_error_classes() -> None:
    async with probing() as probe:
        body = models().GetOrderListRequest()
        async with _client(probe, app_secret="another") as client:
            assert await _code_of(client.orders.get_order_list(page_size=10, body=body)) == 106001
        async with _client(probe, shop_cipher="GCP_unknown") as client:
            assert await _code_of(client.orders.get_order_list(page_size=10, body=body)) == 101000
        async with _client(probe) as client:
            assert await _code_of(client.orders.get_order_list(page_size=101, body=body)) == 36009004
            await probe.control(
                "POST", f"sellers/{probe.shop.seller.open_id}/scopes", {"granted": ["seller.order.info"]}
            )
            assert await _code_of(client.logistics.get_warehouse_list()) == 105005
            await probe.control("POST", "tokens/expire")
            assert await _code_of(client.orders.get_order_list(page_size=10, body=body)) == 105002


async def test_it_meets_the_limit_and_the_cap_of_products() -> None:
    async with probing(limit_per_s=3, product_cap=15) as probe, _client(probe) as client:
        search = client.products.search_products
        assert await _code_of(search(page_size=10, body=models().SearchProductsRequest())) == 12052180
        codes = [
            await _code_of(search(page_size=10, body=models().SearchProductsRequest())) for _ in range(3)
        ]
        assert codes == [12052180, 12052180, 36009002]


async def test_it_sets_lists_and_removes_webhooks() -> None:
    async with probing() as probe, _client(probe) as client:
        names = [
            name
            for name in models().UpdateShopWebhookRequestEventType
            if name.value not in _UNNAMED_BY_THE_DOCUMENTS
        ]
        assert len(names) == 16
        for name in names:
            body = models().UpdateShopWebhookRequest(address="https://one.example/hook", event_type=name)
            assert (await client.event.update_shop_webhook(body=body)).code == 0
        listed = (await client.event.get_shop_webhooks()).data
        assert listed.total_count == 16
        assert {one.event_type for one in listed.webhooks} == {name.value for name in names}
        for name in names:
            topic = models().DeleteWebhookForAnEventRequestEventType(name.value)
            gone = models().DeleteWebhookForAnEventRequest(event_type=topic)
            assert (await client.event.delete_webhook_for_an_event(body=gone)).code == 0
        assert (await client.event.get_shop_webhooks()).data.total_count == 0
