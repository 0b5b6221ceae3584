"""A daemon's web server on a real store and simulator, where sellers consent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from sync.app import App, open_app
from sync.settings import Settings
from sync.simulator.server import RunningSimulator
from sync.streams.registry import STREAMS
from sync.web.server import WebServer
from tests.support import make_settings
from tests.web_probe import Browser, Reply, read_reply


@dataclass(frozen=True, slots=True)
class Place:
    """Where sellers come back to."""

    app: App
    url: str
    simulator: RunningSimulator


def consent_settings(database_url: str, simulator: RunningSimulator, **changes: Any) -> Settings:
    """Settings with a consent page: the simulator's."""
    return make_settings(
        database_url,
        simulator,
        **{
            "service_id": simulator.options.service_id,
            "consent_url": f"{simulator.url}/open/authorize",
            "web": {"port": 0},
            **changes,
        },
    )


@asynccontextmanager
async def open_place(settings: Settings, simulator: RunningSimulator) -> AsyncIterator[Place]:
    """The server runs, and the simulator sends sellers back to it."""
    async with open_app(settings) as app, serve(app) as server:
        simulator.change_options(redirect_url=f"{server.url}/oauth/callback")
        yield Place(app, server.url, simulator)


def serve(app: App) -> WebServer:
    """The daemon's server on this application, once it is entered."""
    return WebServer(
        settings=app.settings,
        status=app.store.status,
        streams=tuple(STREAMS),
        is_ready=lambda: True,
        running=frozenset,
        onboarding=app.onboarding,
    )


class Seller(Browser):
    """A browser without pictures, that allows or refuses at the simulator's page."""

    def __init__(self, session: aiohttp.ClientSession, place: Place) -> None:
        self._session = session
        self._place = place

    async def get(self, path: str, **headers: str) -> Reply:
        headers.setdefault("Accept", "text/html")
        return await self._ask("GET", path, headers=headers)

    async def post(self, path: str, **fields: Any) -> Reply:
        return await self._ask("POST", path, data=fields)

    async def _ask(self, method: str, path: str, **more: Any) -> Reply:
        async with self._session.request(
            method, self._place.url + path, allow_redirects=False, **more
        ) as answer:
            return await read_reply(answer)

    async def follow(self, path: str) -> Reply:
        """What is shown in the end, after the redirects on this server."""
        answer = await self.get(path)
        for _ in range(3):
            if answer.status != 303:
                break
            answer = await self.get(answer.headers["Location"])
        return answer

    async def begin(self, app: str = "default") -> str:
        """The state of a consent that was begun here."""
        answer = await self.get(f"/oauth/start?app={app}")
        assert answer.status == 302, answer.text
        return state_of(answer.headers["Location"])


def state_of(link: str) -> str:
    """The state in a consent link."""
    return parse_qs(urlsplit(link).query)["state"][0]


def answer_path(simulator: RunningSimulator, *, place: int = 0, state: str = "", code: str = "") -> str:
    """The path that the simulator sends the seller in that place back to."""
    open_id = list(simulator.simulation.accounts.consents)[place]
    code = code or simulator.simulation.accounts.issue_code(open_id)
    tail = f"&state={state}" if state else ""
    return f"/oauth/callback?app_key={simulator.options.app_key}&code={code}&locale=en&shop_region=GB{tail}"


@asynccontextmanager
async def open_seller(place: Place) -> AsyncIterator[Seller]:
    """A browser of its own, with its own cookies."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Seller(session, place)
