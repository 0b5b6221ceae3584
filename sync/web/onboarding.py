"""The pages of a consent: its begin, TikTok Shop's answer, what became of it, and who waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from sync.engine.onboarding import Onboarding
from sync.errors import AppError, ConsentError, DatabaseError, NeedsReauthError, SettingsError, SyncError
from sync.log import redact
from sync.settings import Web
from sync.web.guard import Guard
from sync.web.outcomes import OUTCOMES
from sync.web.pages import Pages
from sync.web.visits import LIFE_S, Allowance, Answer, Visit, Visits

log = structlog.get_logger(__name__)

_COOKIE = "shopsync_consent"
# How long a browser is kept waiting for TikTok Shop before it is shown that something goes on.
_PATIENCE_S = 15.0
_REFRESH_S = 2
_READ_S = 10.0
_CODE = re.compile(r"[\w.~-]{8,512}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ConsentPages:
    """Answers under /oauth. Sellers come without any token: only a state or a code lets them do something.

    ``stays`` is False where the process ends as soon as a consent is through; ``on_change`` is called
    when a shop was connected or let go.
    """

    def __init__(
        self,
        onboarding: Onboarding,
        guard: Guard,
        pages: Pages,
        settings: Web,
        *,
        stays: bool = True,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._onboarding = onboarding
        self._guard = guard
        self._pages = pages
        self._is_https = settings.public_url.startswith("https:")
        self._stays = stays
        self._on_change = on_change
        self._visits = Visits()
        self._begins = Allowance(30, per_s=1)
        # Each costs one look into the database, and nothing where the state is not known.
        self._states = Allowance(100, per_s=20)
        # Each costs a call to TikTok Shop. Sellers come this way a few times a year.
        self._unasked = Allowance(10, per_s=0.1)
        self.was_shown = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        # No HEAD: whoever previews a link must not use it up.
        return [
            web.get("/oauth/start", self._start, allow_head=False),
            web.get("/oauth/callback", self._receive, allow_head=False),
            web.get("/oauth/done", self._show, allow_head=False),
            web.post("/oauth/again", self._try_again),
            web.post("/oauth/shops", self._choose),
            web.get("/oauth/begun/{digest}", self._tell_begun, allow_head=False),
        ]

    async def close(self) -> None:
        """No consent is under way any more."""
        await self._visits.close()

    async def _start(self, request: web.Request) -> web.Response:
        self._guard.admit(request)
        # A page elsewhere can show an image from here, and must not fill the table by it.
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            raise web.HTTPForbidden(text="403: open this address in a browser\n")
        if not self._begins.take():
            return self._outcome(request, "busy")
        names = self._onboarding.app_names
        app = request.query.get("app", names[0] if len(names) == 1 else "")
        if app not in names:
            known = ", ".join(names)
            return self._pages.tell_problem(
                request, HTTPStatus.NOT_FOUND, "No such app", f"Known are {known}: /oauth/start?app=NAME"
            )
        try:
            begun = await self._onboarding.begin(app)
        except SettingsError as error:
            return self._pages.tell_problem(
                request, HTTPStatus.CONFLICT, "This app is not set up completely", redact(str(error))
            )
        return web.Response(status=HTTPStatus.FOUND, headers={hdrs.LOCATION: begun.link})

    async def _receive(self, request: web.Request) -> web.Response:
        self.was_shown.clear()
        query = request.query
        answer = Answer(query.get("code", ""), query.get("state", ""), query.get("app_key", ""))
        # TikTok Shop writes the absence of a code as the text "null".
        is_refusal = "error" in query or answer.code == "null"
        if not is_refusal and not _CODE.fullmatch(answer.code):
            return self._go("nothing")
        if not (self._states if answer.state or is_refusal else self._unasked).take():
            return self._outcome(request, "busy")
        if is_refusal:
            return await self._note_refusal(answer)
        visit = Visit(answer)
        await self._work(visit)
        # Only who brought a state that works, or a code that TikTok Shop was asked about, is remembered.
        is_empty = visit.attempts is None and not _can_retry(visit)
        return self._go(visit.problem) if is_empty and visit.problem else self._go_with(visit)

    async def _note_refusal(self, answer: Answer) -> web.Response:
        if answer.state:
            try:
                await self._onboarding.refuse(answer.state)
            except ConsentError as error:
                return self._go(error.why)
        return self._go("refused")

    async def _work(self, visit: Visit) -> None:
        """The answer is turned into connected shops, or that goes on behind the page."""
        # A task of its own: a browser that gives up must not cut off the tokens that are on their way.
        visit.problem = ""
        visit.work = asyncio.create_task(self._finish(visit), name="consent")
        await asyncio.wait({visit.work}, timeout=_PATIENCE_S)

    async def _finish(self, visit: Visit) -> None:
        try:
            await self._finish_any(visit)
            self._on_change()
        except ConsentError as error:
            visit.problem = error.why
        except NeedsReauthError:
            visit.problem = "code"
        except AppError:
            visit.problem = "app"
        except SettingsError as error:
            log.error("consent_failed", reason=str(error))
            visit.problem = "settings"
        except DatabaseError:
            visit.problem = "database"
        except SyncError as error:
            log.warning("consent_failed", reason=str(error))
            visit.problem = "provider"
        except Exception:
            # The outermost loop of a task: the page tells no more than that, the log tells all.
            log.exception("web_request_failed", path="/oauth/callback")
            visit.problem = "settings"

    async def _finish_any(self, visit: Visit) -> None:
        answer, onboarding = visit.answer, self._onboarding
        if visit.attempts is None and answer.state:
            attempt = await onboarding.accept(answer.state, answer.code, app_key=answer.app_key)
            visit.attempts = [attempt]
        elif visit.attempts is None:
            visit.attempts = onboarding.attempts(answer.code, app_key=answer.app_key)
        for attempt in visit.attempts:
            try:
                visit.connected = await onboarding.finish(attempt)
                # The code and the tokens are not needed any more, the visit lives on.
                visit.answer, visit.attempts = Answer("", "", ""), []
                return
            except (NeedsReauthError, AppError):
                if attempt is visit.attempts[-1]:
                    raise

    async def _show(self, request: web.Request) -> web.Response:
        visit = self._visits.find(request.cookies.get(_COOKIE, ""))
        said = request.query.get("said", "")
        if said in OUTCOMES or visit is None:
            self.was_shown.set()
            return self._outcome(request, said if said in OUTCOMES else "nothing")
        if visit.work is not None:
            await asyncio.wait({visit.work}, timeout=_PATIENCE_S)
        self.was_shown.set()
        if visit.problem:
            return self._outcome(request, visit.problem, form=visit.form)
        if visit.connected is None:
            return self._pages.render("consent_working.html", HTTPStatus.ACCEPTED, refresh_s=_REFRESH_S)
        if visit.connected.is_waiting:
            return self._pages.render("consent_waiting.html", HTTPStatus.ACCEPTED, connected=visit.connected)
        states = dict(visit.connected.connection.states)
        kept = [shop for shop in visit.connected.shops if states.get(shop.shop_id) != "disconnected"]
        has_form = self._stays and len(kept) > 1 and bool(states)
        return self._pages.render(
            "consent_done.html",
            HTTPStatus.OK,
            has_form=has_form,
            connected=visit.connected,
            kept=kept,
            states=states,
            form=visit.form if has_form else "",
            shows_status=self._shows_status(request),
        )

    async def _try_again(self, request: web.Request) -> web.Response:
        visit, _ = await self._visit_of(request)
        if visit is None or not _can_retry(visit):
            return self._go("stale")
        if not self._states.take():
            return self._outcome(request, "busy")
        await self._work(visit)
        return self._see_other("/oauth/done")

    async def _choose(self, request: web.Request) -> web.Response:
        visit, keep = await self._visit_of(request)
        if visit is None or visit.connected is None or visit.connected.is_waiting:
            return self._go("stale")
        visit.connected = await self._onboarding.choose(visit.connected, keep)
        self._on_change()
        return self._see_other("/oauth/done")

    async def _visit_of(self, request: web.Request) -> tuple[Visit | None, list[str]]:
        """The visit that the form belongs to, if it was not sent before, and the shops that it keeps."""
        try:
            async with asyncio.timeout(_READ_S):
                data = await request.post()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        visit = self._visits.find(request.cookies.get(_COOKIE, ""))
        if visit is None or not visit.use_form(str(data.get("form", ""))):
            return None, []
        return visit, [str(value) for value in data.getall("keep", [])]

    async def _tell_begun(self, request: web.Request) -> web.Response:
        """204 when the consent of that digest was begun in this database: so a command finds its daemon."""
        digest = request.match_info["digest"]
        if not _DIGEST.fullmatch(digest) or not self._states.take():
            raise web.HTTPNotFound
        if not await self._onboarding.is_begun(bytes.fromhex(digest)):
            raise web.HTTPNotFound
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _outcome(self, request: web.Request, name: str, *, form: str = "") -> web.Response:
        outcome = OUTCOMES[name]
        return self._pages.render(
            "consent_outcome.html",
            outcome.status,
            has_form=outcome.can_retry,
            outcome=outcome,
            form=form,
            shows_status=self._shows_status(request),
        )

    def _shows_status(self, request: web.Request) -> bool:
        return self._stays and self._guard.is_admitted(request)

    def _go(self, said: str) -> web.Response:
        return self._see_other(f"/oauth/done?said={said}")

    def _go_with(self, visit: Visit) -> web.Response:
        """On to the page without the code in its address, which would stay in the browser's history."""
        response = self._see_other("/oauth/done")
        response.set_cookie(
            _COOKIE,
            self._visits.open(visit),
            max_age=LIFE_S,
            path="/oauth",
            httponly=True,
            # Not Strict: the seller comes from TikTok Shop's page, and is sent on at once.
            samesite="Lax",
            secure=self._is_https,
        )
        return response

    @staticmethod
    def _see_other(path: str) -> web.Response:
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: path})


def _can_retry(visit: Visit) -> bool:
    return visit.problem in OUTCOMES and OUTCOMES[visit.problem].can_retry
