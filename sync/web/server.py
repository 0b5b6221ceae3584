"""The daemon's web server: is it alive, is it ready, how are the shops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST

from sync import metrics
from sync.clock import utc_now
from sync.engine.onboarding import Onboarding
from sync.errors import DatabaseError
from sync.settings import Settings
from sync.store.status import Status, StreamStatus
from sync.web.gauges import set_gauges
from sync.web.guard import Guard
from sync.web.listener import Listener
from sync.web.onboarding import ConsentPages
from sync.web.pages import Pages
from sync.web.readings import SharedReading
from sync.web.status import Counts, describe
from sync.web.waiting import WaitingPage
from sync.web.webhooks import PATH, Webhooks

log = structlog.get_logger(__name__)

_KEEP_STATUS_S = 5.0
# Counting every row of every table takes seconds on a large database.
_KEEP_COUNTS_S = 60.0
_STATUS_TIMEOUT_S = 10.0
_COUNTS_TIMEOUT_S = 2.0
_PING_TIMEOUT_S = 2.0
_REFRESH_S = 10


class WebServer:
    """Serves while the async context is open. ``url`` is where, once it is.

    ``is_ready`` tells whether the daemon does its work, ``running`` which shops it is syncing now.
    ``trouble`` says what keeps it from its work until a person acts, or nothing.
    Sellers can consent where there is an ``onboarding``.
    Raises SettingsError when it would stand open to a network, or cannot listen.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        status: Status,
        streams: Sequence[str],
        is_ready: Callable[[], bool],
        running: Callable[[], frozenset[str]],
        trouble: Callable[[], str] = str,
        onboarding: Onboarding | None = None,
        webhooks: Webhooks | None = None,
    ) -> None:
        self._web = settings.web
        self._guard = Guard(settings.web)
        self._is_ready = is_ready
        self._running = running
        self._trouble = trouble
        self._webhooks = webhooks
        self._intervals_s = {stream: settings.intervals.of(stream) for stream in streams}
        self._status = SharedReading(lambda: status.read(streams, with_rows=False), keep_s=_KEEP_STATUS_S)
        self._counts = SharedReading(lambda: _count(status, streams), keep_s=_KEEP_COUNTS_S)
        # Not kept: a probe asks for the state at this moment.
        self._ping = SharedReading(status.ping, keep_s=0.0)
        self._waiting = SharedReading(self._count_waiting, keep_s=_KEEP_STATUS_S)
        pages = Pages()
        self._pages = pages
        self._onboarding = onboarding
        self._consents: ConsentPages | None = None
        if onboarding is not None:
            self._consents = ConsentPages(
                onboarding, self._guard, pages, settings.web, on_change=self._look_again
            )
        self._listener = Listener(
            settings.web,
            self._routes(),
            guard=self._guard,
            pages=pages,
            judge=None if webhooks is None else webhooks.judge,
        )
        self.url = ""

    async def __aenter__(self) -> WebServer:
        await self._listener.__aenter__()
        self.url = self._listener.url
        log.info("web_server_started", url=self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.__aexit__()
        if self._consents is not None:
            await self._consents.close()
        for reading in (self._status, self._counts, self._ping, self._waiting):
            await reading.close()

    @property
    def callback_url(self) -> str:
        """Where sellers come back to: the redirect URL to register in Partner Center."""
        return self._listener.callback_url

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._show_status),
            web.get("/healthz", self._tell_alive),
            web.get("/readyz", self._tell_ready),
            web.get("/metrics", self._show_metrics),
            *([web.post(PATH, self._webhooks.receive)] if self._webhooks is not None else []),
            *self._consent_routes(),
        ]

    def _consent_routes(self) -> list[web.RouteDef]:
        if self._onboarding is None or self._consents is None:
            return []
        waiting = WaitingPage(self._onboarding, self._guard, self._pages, on_change=self._look_again)
        return [*self._consents.routes(), *waiting.routes()]

    def _look_again(self) -> None:
        """Who connects a shop and goes to the status page sees it there."""
        self._status.forget()
        self._waiting.forget()

    async def _count_waiting(self) -> int:
        return len(await self._onboarding.waiting()) if self._onboarding is not None else 0

    async def _show_status(self, request: web.Request) -> web.Response:
        self._guard.admit(request)
        status = await self._status.get(timeout_s=_STATUS_TIMEOUT_S)
        counts = await self._counts.look(timeout_s=_COUNTS_TIMEOUT_S)
        page = describe(
            status.value,
            intervals_s=self._intervals_s,
            counts=None if counts is None else counts.value,
            running=self._running(),
            is_ready=self._is_ready(),
            trouble=self._trouble(),
            age_s=status.age_s,
            now=utc_now(),
        )
        waiting = await self._waiting.look(timeout_s=_COUNTS_TIMEOUT_S)
        return self._pages.render(
            "status.html",
            HTTPStatus.OK,
            page=page,
            apps=self._onboarding.app_names if self._onboarding is not None else (),
            waiting=0 if waiting is None else waiting.value,
            refresh_s=_REFRESH_S,
        )

    async def _tell_alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _tell_ready(self, _request: web.Request) -> web.Response:
        # Anybody may ask, so the reason names no host: the status page and the log do.
        reason = self._trouble()
        if not reason and not self._is_ready():
            reason = "the daemon is starting, stopping or without its database"
        elif not reason:
            try:
                await self._ping.get(timeout_s=_PING_TIMEOUT_S)
            except DatabaseError:
                reason = f"Postgres did not answer within {_PING_TIMEOUT_S:g} s, or refused"
        if reason:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"not ready: {reason}\n")
        return web.Response(text="ok\n")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        self._guard.admit(request)
        with suppress(DatabaseError):
            # Without its database the counters of the process are still worth a scrape.
            status = await self._status.get(timeout_s=_PING_TIMEOUT_S)
            set_gauges(status.value)
        return web.Response(body=metrics.render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


async def _count(status: Status, streams: Sequence[str]) -> Counts:
    rows: list[StreamStatus] = await status.read(streams, with_rows=True)
    return {(row.shop_id, row.stream): row.rows for row in rows if row.rows is not None}
