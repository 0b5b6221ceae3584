"""A plain signed client of the simulator, which sends exactly what a test tells it to."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.shops import Shop
from sync.simulator.world import build_world
from sync.tiktok.signing import sign_request

ORDERS = "/order/202309/orders/search"
PRODUCTS = "/product/202502/products/search"
INVENTORY = "/product/202309/inventory/search"
WAREHOUSES = "/logistics/202309/warehouses"
SHOPS = "/authorization/202309/shops"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, with the parsed body where it is JSON."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> int:
        return int(self.json["code"])

    @property
    def data(self) -> Any:
        return self.json["data"]


class Probe:
    """One seller's access to a running simulator; ``shop`` is the one it asks about."""

    def __init__(self, running: RunningSimulator, session: aiohttp.ClientSession, shop: Shop) -> None:
        self.running = running
        self.session = session
        self.shop = shop
        self.token = ""

    async def authorize(self) -> dict[str, Any]:
        code = self.running.simulation.accounts.issue_code(self.shop.seller.open_id)
        answer = await self.tokens("get", auth_code=code, grant_type="authorized_code")
        self.token = answer.data["access_token"]
        return dict(answer.data)

    async def tokens(self, kind: str, **query: str) -> Answer:
        options = self.running.options
        credentials = {"app_key": options.app_key, "app_secret": options.app_secret}
        return await self.send("GET", f"/api/v2/token/{kind}", query=credentials | query)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: object = None,
        secret: str | None = None,
        token: str | None = None,
    ) -> Answer:
        """A signed call; a query value of None leaves that parameter out, even one sent by default."""
        options = self.running.options
        full: dict[str, str | None] = {"app_key": options.app_key, "timestamp": str(int(time.time()))}
        if not path.startswith(("/authorization/", "/seller/")):
            full["shop_cipher"] = self.shop.cipher
        full |= query or {}
        sent = {name: value for name, value in full.items() if value is not None}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if "sign" not in (query or {}):
            sent["sign"] = sign_request(path, sent, app_secret=secret or options.app_secret, body=raw)
        headers = {"x-tts-access-token": self.token if token is None else token}
        return await self.send(method, path, query=sent, raw=raw, headers=headers)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        async with self.session.request(
            method,
            self.running.url + path,
            params=query,
            data=raw or None,
            headers={"content-type": "application/json", **(headers or {})},
            allow_redirects=False,
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def orders(self, body: object = None, **query: str | None) -> Answer:
        asked = {"page_size": "100", "sort_field": "update_time", "sort_order": "ASC"} | query
        return await self.call("POST", ORDERS, query=asked, body={} if body is None else body)

    async def products(self, body: object = None, **query: str | None) -> Answer:
        return await self.call(
            "POST", PRODUCTS, query={"page_size": "100"} | query, body={} if body is None else body
        )

    async def walk(self, path: str, key: str, *, body: object, **query: str) -> list[dict[str, Any]]:
        """All records of a search, page after page."""
        records: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            answer = await self.call("POST", path, query={**query, "page_token": token}, body=body)
            records += answer.data.get(key, [])
            token = answer.data.get("next_page_token") or None
            if token is None:
                return records

    async def control(self, method: str, path: str, body: object = None) -> Any:
        raw = b"" if body is None else json.dumps(body).encode()
        answer = await self.send(method, f"/_sim/{path}", raw=raw)
        assert answer.status == 200, answer.raw
        return answer.json

    async def truth(self, stream: str) -> list[dict[str, Any]]:
        records = (await self.control("GET", f"truth?shop_id={self.shop.shop_id}&stream={stream}"))["records"]
        return list(records)


@asynccontextmanager
async def probing(
    *, shop: int = 0, shops: int = 1, orders: int = 120, products: int = 20, **options: Any
) -> AsyncIterator[Probe]:
    """A probe with a token for a small world; ``options`` are the simulator's, with no limit by default."""
    world = build_world(
        seed=7, shops=shops, orders_per_shop=orders, products_per_shop=products, flash_sale_orders=orders // 4
    )
    running = await serve(world, options=SimulatorOptions(**({"limit_per_s": 0} | options)))
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            probe = Probe(running, session, list(world.shops.values())[shop])
            await probe.authorize()
            yield probe
    finally:
        await running.close()
