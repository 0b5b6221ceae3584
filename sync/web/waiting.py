"""The page on which a person here says whether a seller who came unasked is to be connected."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import hdrs, web

from sync.engine.onboarding import Onboarding
from sync.errors import DatabaseError, SyncError
from sync.log import redact
from sync.store.consents import WaitingSeller
from sync.web.guard import Guard
from sync.web.pages import Pages

_FORM_LIFE_S = 1800


class WaitingPage:
    """Answers /oauth/waiting, for this machine or who knows the token."""

    def __init__(
        self,
        onboarding: Onboarding,
        guard: Guard,
        pages: Pages,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._onboarding = onboarding
        self._guard = guard
        self._pages = pages
        self._on_change = on_change
        # A page elsewhere can send a form to here, but cannot read what this page holds.
        self._key = secrets.token_bytes()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/oauth/waiting", self._show, allow_head=False),
            web.post("/oauth/waiting", self._decide),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        self._guard.admit(request)
        sellers = await self._onboarding.waiting()
        now = int(time.time())
        forms = {seller.credential_id: self._form(seller, now) for seller in sellers}
        return self._pages.render("waiting.html", HTTPStatus.OK, has_form=True, sellers=sellers, forms=forms)

    async def _decide(self, request: web.Request) -> web.Response:
        self._guard.admit(request)
        data = await request.post()
        named = {str(seller.credential_id): seller for seller in await self._onboarding.waiting()}
        seller = named.get(str(data.get("seller", "")))
        if seller is not None:
            if not self._is_ours(seller, str(data.get("form", ""))):
                return self._tell(
                    request, HTTPStatus.FORBIDDEN, "This form is too old", "Load the page again."
                )
            try:
                if data.get("do") == "confirm":
                    await self._onboarding.confirm(seller)
                elif data.get("do") == "send away":
                    await self._onboarding.send_away(seller)
            except DatabaseError:
                raise
            except SyncError as error:
                text = redact(str(error))
                return self._tell(request, HTTPStatus.BAD_GATEWAY, "The seller could not be connected", text)
            self._on_change()
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/oauth/waiting"})

    def _tell(self, request: web.Request, status: HTTPStatus, title: str, text: str) -> web.Response:
        return self._pages.tell_problem(request, status, title, text)

    def _form(self, seller: WaitingSeller, made_at: int) -> str:
        text = f"{made_at}|{seller.credential_id}|{seller.since.isoformat()}"
        return f"{made_at}.{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"

    def _is_ours(self, seller: WaitingSeller, form: str) -> bool:
        made_at = form.partition(".")[0]
        if not made_at.isascii() or not made_at.isdigit() or time.time() - int(made_at[:12]) > _FORM_LIFE_S:
            return False
        return hmac.compare_digest(
            form.encode("utf-8", "replace"), self._form(seller, int(made_at[:12])).encode()
        )
