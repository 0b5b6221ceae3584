"""A web server of this process: where it listens, what every answer carries, what becomes of errors."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from sync.engine.registrations import callback_url, url_of
from sync.errors import DatabaseError, PortTakenError, SettingsError
from sync.log import redact
from sync.settings import Web
from sync.web.doorman import Door, Judge
from sync.web.guard import Guard
from sync.web.pages import Pages

log = structlog.get_logger(__name__)
# For what is no HTTP: a traceback each time, with what the stranger sent. Our own faults are logged
# where they are answered.
_nowhere = logging.getLogger("sync.web.nowhere")
_nowhere.setLevel(logging.CRITICAL)

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

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Listener:
    """Serves the routes while the async context is open. ``url`` is where, once it is.

    Raises SettingsError when it would stand open to a network, PortTakenError when its port is taken.
    """

    def __init__(
        self,
        settings: Web,
        routes: Iterable[web.RouteDef],
        *,
        guard: Guard,
        pages: Pages,
        judge: Judge | None = None,
    ) -> None:
        self._settings = settings
        self._routes = list(routes)
        self._guard = guard
        self._pages = pages
        self._judge = judge or (lambda _: None)
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None
        self._listening: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Listener:
        app = web.Application(middlewares=[self._answer_errors], client_max_size=_MAX_BODY_BYTES)
        app.on_response_prepare.append(_add_headers)
        app.router.add_routes(self._routes)
        # Without an access log: its lines would hold the token of `/?token=...`, and codes.
        self._runner = web.AppRunner(
            app, access_log=None, logger=_nowhere, keepalive_timeout=15, shutdown_timeout=10
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._door = Door(self._judge, server, count_inner=lambda: len(server.connections))
        host, port = self._settings.host, self._settings.port
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                self._door, host, port, backlog=512
            )
        except OSError as error:
            await self._runner.cleanup()
            raise _explain(error, host, port) from None
        self.url = url_of(host, self._listening.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None and self._door is not None:
            self._listening.close()
            self._door.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def callback_url(self) -> str:
        """Where sellers come back to: the redirect URL to register in Partner Center."""
        return callback_url(self._settings, self.url)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Every fault becomes an answer that a person can read and that gives nothing away."""
        try:
            self._guard.check_host(request)
            return await handler(request)
        except web.HTTPUnauthorized as error:
            response = self._pages.tell_problem(
                request, HTTPStatus.UNAUTHORIZED, "This page needs a token", str(error.text)
            )
            response.headers.extend({hdrs.WWW_AUTHENTICATE: error.headers[hdrs.WWW_AUTHENTICATE]})
            return response
        except web.HTTPNotFound:
            return web.Response(status=404, text="404: there is nothing here; the status page is at /\n")
        except web.HTTPException:
            raise
        except DatabaseError as error:
            return self._pages.tell_problem(
                request,
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The database does not answer",
                redact(str(error)),
                refresh_s=_REFRESH_S,
            )
        except Exception:
            # The outermost loop of a request: the page tells no more than that, the log tells all.
            log.exception("web_request_failed", path=request.path)
            return web.Response(status=500, text="500: this is a fault of shopsync; its log says more\n")


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # Which version of which library answers is nobody's business.
    response.headers[hdrs.SERVER] = "shopsync"


def _explain(error: OSError, host: str, port: int) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
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
