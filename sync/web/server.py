"""The daemon's web server: is it alive, is it ready, how are the shops."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import jinja2
import structlog
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST

from sync import metrics
from sync.clock import utc_now
from sync.errors import DatabaseError, SettingsError
from sync.log import redact
from sync.settings import Settings
from sync.store.status import Status, StreamStatus
from sync.web.gauges import set_gauges
from sync.web.guard import Guard
from sync.web.readings import SharedReading
from sync.web.status import Counts, describe, tell_duration

log = structlog.get_logger(__name__)

_KEEP_STATUS_S = 5.0
# Counting every row of every table takes seconds on a large database.
_KEEP_COUNTS_S = 60.0
_STATUS_TIMEOUT_S = 10.0
_COUNTS_TIMEOUT_S = 2.0
_PING_TIMEOUT_S = 2.0
_MAX_BODY_BYTES = 256 * 1024
_REFRESH_S = 10

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CSP = "default-src 'none'; style-src 'nonce-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Serves while the async context is open. ``url`` is where, once it is.

    ``is_ready`` tells whether the daemon does its work, ``running`` which shops it is syncing now.
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
    ) -> None:
        self._web = settings.web
        self._guard = Guard(settings.web)
        self._is_ready = is_ready
        self._running = running
        self._intervals_s = {stream: settings.intervals.of(stream) for stream in streams}
        self._status = SharedReading(lambda: status.read(streams, with_rows=False), keep_s=_KEEP_STATUS_S)
        self._counts = SharedReading(lambda: _count(status, streams), keep_s=_KEEP_COUNTS_S)
        # Not kept: a probe asks for the state at this moment.
        self._ping = SharedReading(status.ping, keep_s=0.0)
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["duration"] = tell_duration
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> WebServer:
        # Without an access log: its lines would hold the token of `/?token=...`.
        self._runner = web.AppRunner(
            self._make_app(), access_log=None, keepalive_timeout=15, shutdown_timeout=10
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._web.host, self._web.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise _explain(error, self._web.host, self._web.port) from None
        self.url = _url(self._web.host, self._runner.addresses[0][1])
        log.info("web_server_started", url=self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for reading in (self._status, self._counts, self._ping):
            await reading.close()

    def _make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._answer_errors], client_max_size=_MAX_BODY_BYTES)
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/", self._show_status)
        app.router.add_get("/healthz", self._tell_alive)
        app.router.add_get("/readyz", self._tell_ready)
        app.router.add_get("/metrics", self._show_metrics)
        return app

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Every fault becomes an answer that a person can read and that gives nothing away."""
        try:
            self._guard.check_host(request)
            return await handler(request)
        except web.HTTPUnauthorized as error:
            response = self._tell_problem(
                request, HTTPStatus.UNAUTHORIZED, "This page needs a token", str(error.text)
            )
            response.headers.extend({hdrs.WWW_AUTHENTICATE: error.headers[hdrs.WWW_AUTHENTICATE]})
            return response
        except web.HTTPNotFound:
            return web.Response(status=404, text="404: there is nothing here; the status page is at /\n")
        except web.HTTPException:
            raise
        except DatabaseError as error:
            return self._tell_problem(
                request,
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The database does not answer",
                redact(str(error)),
            )
        except Exception:
            # The outermost loop of a request: the page tells no more than that, the log tells all.
            log.exception("web_request_failed", path=request.path)
            return web.Response(status=500, text="500: this is a fault of shopsync; its log says more\n")

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
            age_s=status.age_s,
            now=utc_now(),
        )
        return self._render("status.html", HTTPStatus.OK, page=page, refresh_s=_REFRESH_S)

    async def _tell_alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _tell_ready(self, _request: web.Request) -> web.Response:
        # Anybody may ask, so the reason names no host: the status page and the log do.
        reason = ""
        if not self._is_ready():
            reason = "the daemon is starting, stopping or without its database"
        else:
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

    def _tell_problem(
        self, request: web.Request, status: HTTPStatus, title: str, message: str
    ) -> web.Response:
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            return web.Response(status=status, text=f"{status.value}: {title}. {message}\n")
        return self._render("problem.html", status, title=title, message=message, refresh_s=_REFRESH_S)

    def _render(self, template: str, status: HTTPStatus, **values: object) -> web.Response:
        nonce = secrets.token_urlsafe(16)
        text = self._templates.get_template(template).render(nonce=nonce, **values)
        return web.Response(
            status=status,
            text=text,
            content_type="text/html",
            headers={"Content-Security-Policy": _CSP.format(nonce)},
        )


async def _count(status: Status, streams: Sequence[str]) -> Counts:
    rows: list[StreamStatus] = await status.read(streams, with_rows=True)
    return {(row.shop_id, row.stream): row.rows for row in rows if row.rows is not None}


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # Which version of which library answers is nobody's business.
    response.headers[hdrs.SERVER] = "shopsync"


def _url(host: str, port: int) -> str:
    # Who listens everywhere is reached from here through loopback.
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _explain(error: OSError, host: str, port: int) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {port} on {host} is taken by another program: stop it, "
            "or set SHOPSYNC_WEB__PORT to a free one"
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            f"port {port} on {host} needs more rights than this user has: "
            "set SHOPSYNC_WEB__PORT to 1024 or more"
        )
    return SettingsError(
        f"the web server cannot listen on {host} port {port} ({error.strerror}): "
        "correct SHOPSYNC_WEB__HOST or SHOPSYNC_WEB__PORT"
    )
