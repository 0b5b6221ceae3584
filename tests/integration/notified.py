"""A daemon that hears of changes, a simulator in which they happen, and whoever tells of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import msgspec

from sync.app import App
from sync.cli.syncing import serve_daemon
from sync.settings import Settings
from sync.simulator import lifecycle
from sync.simulator.server import RunningSimulator
from sync.simulator.shops import Shop
from sync.tiktok.signing import sign_notification
from tests.oracle import compare
from tests.support import connected_app, make_settings

_QUIET = {"orders_s": 3600, "products_s": 3600, "inventory_s": 3600, "warehouses_s": 3600}
BRISK = {"orders_s": 1, "products_s": 1, "inventory_s": 1, "warehouses_s": 3600}
_numbers = itertools.count(7_380_066_284_010_030_890)


def quiet_settings(database_url: str, simulator: RunningSimulator, **changes: Any) -> Settings:
    """Settings of a daemon whose rounds find nothing in the time of a test."""
    values = {"settle_s": 0, "intervals": _QUIET, "reread_open_orders_s": 0, "verify_every_s": 0}
    return make_settings(
        database_url, simulator, **values | changes, web={"host": "127.0.0.1", "port": 0, "public_url": ""}
    )


@dataclass(slots=True)
class Teller:
    """Sends notifications to ``url`` as TikTok Shop would; the shop is the simulator's first."""

    url: str
    simulator: RunningSimulator
    session: aiohttp.ClientSession
    app: App | None = None
    statuses: list[int] = field(default_factory=list)

    @property
    def shop(self) -> Shop:
        return next(iter(self.simulator.world.shops.values()))

    def body(self, type_: int, data: object, **members: Any) -> bytes:
        envelope = {
            "type": type_,
            "tts_notification_id": str(next(_numbers)),
            "shop_id": self.shop.shop_id,
            "timestamp": int(time.time()),
            "data": data,
        }
        return json.dumps({k: v for k, v in (envelope | members).items() if v is not None}).encode()

    async def tell(self, type_: int, data: object, **members: Any) -> int:
        return await self.send(self.body(type_, data, **members))

    async def send(self, body: bytes, *, key: str = "", secret: str = "", signature: str = "") -> int:
        """The status of the answer, which must be empty."""
        options = self.simulator.options
        signed = sign_notification(
            body, app_key=key or options.app_key, app_secret=secret or options.app_secret
        )
        headers = {"Authorization": signature or signed, "Content-Type": "application/json"}
        async with self.session.post(f"{self.url}/webhooks/tiktok", data=body, headers=headers) as answer:
            assert await answer.read() == b""
            self.statuses.append(answer.status)
            return answer.status

    def open_order(self, *statuses: str) -> int:
        """The newest order in one of these states, or in any that is not final."""
        rows = self.shop.orders.newest.values()
        wanted = statuses or lifecycle.OPEN_STATES
        return max(row.id for row in rows if row.status in wanted)

    def advance(self, order_id: int) -> str:
        """The order is in its next state; the answer is which."""
        order = self.order(order_id)
        lifecycle.advance(order, int(time.time()), shop=self.shop, rng=random.Random(1))
        self.shop.orders.put(lifecycle.row_of(order))
        return str(order["status"])

    def edit(self, order_id: int, **changes: Any) -> None:
        """The order has other members, at the same update_time."""
        self.shop.orders.amend(lifecycle.row_of(self.order(order_id) | changes))

    def order(self, order_id: int) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.shop.orders.newest[order_id].body)
        return found


@asynccontextmanager
async def telling_daemon(
    settings: Settings, simulator: RunningSimulator, *, tick_s: float = 0.2
) -> AsyncIterator[Teller]:
    """A daemon of this process that has read everything once."""
    async with connected_app(settings, simulator) as app, aiohttp.ClientSession() as session:
        stopping = asyncio.Event()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        daemon = asyncio.create_task(serve_daemon(app, stopping, tick_s=tick_s, on_ready=ready))
        try:
            async with asyncio.timeout(20):
                url = await ready
            unread = "SELECT count(*) FROM sync.cursors WHERE succeeded_at IS NULL"
            await until(lambda: _count(app, unread), lambda count: count == 0)
            await until(
                lambda: _count(app, "SELECT count(*) FROM sync.leases WHERE expires_at > now()"), _is_none
            )
            yield Teller(url, simulator, session, app)
        finally:
            stopping.set()
            await daemon


def _is_none(count: object) -> bool:
    return count == 0


async def _count(app: App, statement: str) -> int:
    async with app.store.database.connection() as connection:
        return int(await connection.fetchval(statement))


async def until(ask: Callable[[], Any], holds: Callable[[Any], object], *, within_s: float = 20) -> Any:
    """The first answer for which the condition holds; fails the test when there is none in time."""
    deadline = time.monotonic() + within_s
    while not holds(answer := await ask()):
        assert time.monotonic() < deadline, f"not in time; the last answer was {answer!r}"
        await asyncio.sleep(0.01)  # Postgres announces nothing.
    return answer


async def status_of(connection: asyncpg.Connection, order_id: int) -> Any:
    return await connection.fetchval("SELECT status FROM tiktok.orders WHERE order_id = $1", str(order_id))


async def hints_left(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM sync.hints"))


async def differences(connection: asyncpg.Connection, teller: Teller) -> list[str]:
    """What the tables have otherwise than the simulator."""
    return [str(one) for one in await compare(connection, teller.simulator.url, teller.simulator.world.shops)]


async def held(connection: asyncpg.Connection) -> Any:
    """How many shops some process holds."""
    return await connection.fetchval("SELECT count(*) FROM sync.leases WHERE expires_at > now()")


def is_zero(count: object) -> bool:
    return count == 0


async def settled(connection: asyncpg.Connection) -> None:
    """Nothing is hinted at any more, and no visit has the shop."""
    await until(lambda: hints_left(connection), is_zero)
    await until(lambda: held(connection), is_zero)


async def next_second() -> None:
    """The second in which the first round read is over: what changes now has a newer time."""
    this = int(time.time())

    async def now() -> int:
        return int(time.time())

    await until(now, lambda second: second > this)
