"""A receiver of notifications with two apps, and whoever knocks at its door."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from pydantic import SecretStr

from sync.app import app_address
from sync.settings import App, load_settings
from sync.store.hints import Hints
from sync.store.pool import Database
from sync.store.status import Status
from sync.tiktok.apps import Apps
from sync.tiktok.signing import sign_notification
from sync.web.server import WebServer
from sync.web.webhooks import PATH, Webhooks

_numbers = itertools.count(1)
SHOP = "7495540735365777507"
US = ("29a39d", "e59af819cc")
GLOBAL = ("abcdef", "123")


class Door:
    """A receiver with two apps, one shop of the second, and a client that knocks."""

    def __init__(self, session: aiohttp.ClientSession, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.heard: list[str] = []
        self._session = session

    async def knock(self, body: bytes, *, app: tuple[str, str] = GLOBAL, signature: str | None = None) -> int:
        signed = sign_notification(body, app_key=app[0], app_secret=app[1])
        headers = {"Authorization": signed if signature is None else signature}
        url = f"http://{self.host}:{self.port}{PATH}"
        async with self._session.post(url, data=body, headers=headers) as answer:
            assert await answer.read() == b""
            return answer.status

    async def tell(self, **members: object) -> int:
        return await self.knock(notification(**members))


def notification(**members: object) -> bytes:
    envelope: dict[str, object] = {
        "type": 1,
        "tts_notification_id": f"n{next(_numbers)}",
        "shop_id": SHOP,
        "data": {"order_id": "7"},
    }
    return json.dumps(envelope | members).encode()


@asynccontextmanager
async def standing(url: str) -> AsyncIterator[Door]:
    """The daemon's own web server, with two apps."""
    settings = load_settings(
        overrides={"apps": {"us": {"app_key": US[0]}}, "app_key": GLOBAL[0], "web": {"port": 0}}
    )
    settings = settings.model_copy(
        update={
            "app_secret": SecretStr(GLOBAL[1]),
            "apps": {"us": App(app_key=US[0], app_secret=SecretStr(US[1]))},
        }
    )
    async with (
        Database(url, size=2) as database,
        Apps(settings.app_names, lambda name: app_address(settings, name)) as apps,
        aiohttp.ClientSession() as session,
    ):
        heard: list[str] = []
        receiver = Webhooks(apps=apps, hints=Hints(database), heard=heard.append)
        async with WebServer(
            settings=settings,
            status=Status(database),
            streams=(),
            is_ready=lambda: True,
            running=frozenset,
            webhooks=receiver,
        ) as server:
            parts = urlsplit(server.url)
            door = Door(session, str(parts.hostname), parts.port or 0)
            door.heard = heard
            yield door


async def hints(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    return [tuple(row) for row in await connection.fetch("SELECT stream, key FROM sync.hints ORDER BY 1, 2")]


def raw(body: bytes, signature: str = "0" * 64, *lines: str) -> bytes:
    head = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {signature}"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body
