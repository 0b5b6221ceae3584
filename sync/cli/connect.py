"""``shopsync shops connect``: a seller's consent, from the link to the connected shops."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
import webbrowser
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer

from sync.app import App, open_app
from sync.cli.state import results_console, run_until_signal, settings_of
from sync.engine.onboarding import STATE_LIFE_S, Attempt, Begun, missing_scopes
from sync.engine.registrations import callback_url, url_of
from sync.errors import (
    DatabaseError,
    IncompleteError,
    NeedsReauthError,
    PortTakenError,
    SettingsError,
)
from sync.settings import DEFAULT_APP, Settings
from sync.store.consents import Consent
from sync.store.shops import ShopRow
from sync.web.guard import Guard
from sync.web.listener import Listener
from sync.web.onboarding import ConsentPages
from sync.web.pages import Pages
from sync.web.waiting import WaitingPage

_POLL_S = 0.5
_LOOK_S = 3.0
# The browser is still to be shown the last page when the consent is through.
_SHOW_S = 5.0
_REFUSED = "the seller refused the access: nothing was connected"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync shops connect --app us")(connect)


def connect(
    context: typer.Context,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="The code that the seller was sent back with, or the whole address (in quotes).",
        ),
    ] = None,
    app_name: Annotated[
        str | None,
        typer.Option("--app", metavar="NAME", help="Which app of the settings the seller consents to."),
    ] = None,
    opens_browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open the consent page here, where there is a display."),
    ] = True,
    timeout_s: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=1, max=STATE_LIFE_S, help="How long to wait.")
    ] = STATE_LIFE_S,
) -> None:
    """Connect every shop of a seller who consents.

    Prints the consent page's address and waits until the seller was there: the daemon hears of it,
    or this command listens in its place. Where neither can be reached from the seller's browser,
    bring the code, or the address that the seller ended up at, with --code.
    """
    settings = settings_of(context, shows_progress=True)
    if code is not None:
        asyncio.run(_bring(settings, _read_answer(code), app_name))
        return
    app = _choose_app(settings, app_name)
    asyncio.run(
        run_until_signal(
            lambda stopping: _wait(settings, app, stopping, timeout_s=timeout_s, opens_browser=opens_browser)
        )
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a person copied: a code alone, or all that stood in the address."""

    code: str = field(repr=False)
    state: str = field(default="", repr=False)
    app_key: str = ""
    is_refusal: bool = False


def _read_answer(text: str) -> _Answer:
    text = text.strip()
    if "code=" not in text and "error=" not in text:
        if not text:
            raise SettingsError("--code is empty: give the code from the address, or the whole address")
        return _Answer(text)
    query = {name: values[0] for name, values in parse_qs(urlsplit(text).query or text.lstrip("?")).items()}
    code = query.get("code", "")
    is_refusal = "error" in query or code == "null"
    if not code and not is_refusal:
        raise SettingsError("--code: there is no code in this address; put it in quotes, whole")
    return _Answer(code, query.get("state", ""), query.get("app_key", ""), is_refusal)


def _choose_app(settings: Settings, wanted: str | None) -> str:
    names = settings.app_names
    if wanted is not None:
        settings.app(wanted)
        return wanted if wanted == DEFAULT_APP else wanted.lower()
    if len(names) > 1 and DEFAULT_APP not in names:
        raise SettingsError(f"--app NAME is needed, since there are several: {', '.join(names)}")
    settings.app(names[0])
    return names[0]


async def _bring(settings: Settings, answer: _Answer, app_name: str | None) -> None:
    async with open_app(settings) as opened:
        try:
            if answer.is_refusal:
                if answer.state:
                    await opened.onboarding.refuse(answer.state)
                raise IncompleteError(_REFUSED)
            attempt = await _attempt(opened, answer, app_name)
            connected = await opened.onboarding.finish(attempt)
        except NeedsReauthError as error:
            raise SettingsError(f"--code: {error}") from error
        _print_connected(await opened.store.shops.list([shop.shop_id for shop in connected.shops]))
        for shop_id in connected.connection.unreached:
            _say(f"{shop_id} is not reached by this consent any more: `shopsync shops list` says what to do")


async def _attempt(opened: App, answer: _Answer, app_name: str | None) -> Attempt:
    if answer.state:
        return await opened.onboarding.accept(answer.state, answer.code, app_key=answer.app_key)
    if answer.app_key and app_name is None:
        (attempt, *_) = opened.onboarding.attempts(answer.code, app_key=answer.app_key)
        return Attempt(attempt.app, answer.code)
    return Attempt(_choose_app(opened.settings, app_name), answer.code)


async def _wait(
    settings: Settings, app: str, stopping: asyncio.Event, *, timeout_s: int, opens_browser: bool
) -> None:
    async with open_app(settings) as opened:
        begun = await opened.onboarding.begin(app)
        try:
            async with _listening(opened) as (listener, pages):
                await _show_link(begun, listener.callback_url, opens_browser=opens_browser)
                consent = await _hear(opened, begun, stopping, timeout_s=timeout_s)
                with suppress(TimeoutError):
                    await asyncio.wait_for(pages.was_shown.wait(), _SHOW_S)
        except PortTakenError as error:
            url = url_of(settings.web.host, settings.web.port)
            if not await asyncio.to_thread(_knows, url, begun):
                _print_link(begun)
                raise IncompleteError(
                    f"{error}. Or, when the seller has consented, copy the address that the browser ends up "
                    "at, whatever it shows, and run:  shopsync shops connect --code 'ADDRESS'"
                ) from None
            await _show_link(begun, callback_url(settings.web, url), opens_browser=opens_browser)
            consent = await _hear(opened, begun, stopping, timeout_s=timeout_s)
        await _tell(opened, consent)


@asynccontextmanager
async def _listening(opened: App) -> AsyncIterator[tuple[Listener, ConsentPages]]:
    """Sellers who come back are heard here, in the daemon's place."""
    web, onboarding = opened.settings.web, opened.onboarding
    guard, templates = Guard(web), Pages()
    pages = ConsentPages(onboarding, guard, templates, web, stays=False)
    waiting = WaitingPage(onboarding, guard, templates)
    try:
        async with Listener(
            web, [*pages.routes(), *waiting.routes()], guard=guard, pages=templates
        ) as listener:
            yield listener, pages
    finally:
        await pages.close()


async def _hear(opened: App, begun: Begun, stopping: asyncio.Event, *, timeout_s: int) -> Consent:
    """What became of the consent, in whichever process.

    Raises IncompleteError when nobody came in time, or the wait was ended.
    """
    deadline = time.monotonic() + timeout_s
    while not stopping.is_set() and time.monotonic() < deadline:
        with suppress(DatabaseError):  # It may come back before the seller does.
            consent = await opened.onboarding.read(begun)
            if consent is None or (consent.is_expired and not consent.is_used):
                break
            if consent.outcome is not None:
                return consent
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), min(_POLL_S, deadline - time.monotonic()))
    if stopping.is_set():
        raise IncompleteError("the wait was ended: a running daemon still hears of the consent")
    raise IncompleteError("no seller came back in time: run `shopsync shops connect` again for a new link")


async def _tell(opened: App, consent: Consent) -> None:
    if consent.outcome == "refused":
        raise IncompleteError(_REFUSED)
    if consent.outcome != "connected":
        raise IncompleteError(f"nothing was connected: {consent.message}")
    _print_connected(await opened.store.shops.list(consent.shop_ids))


async def _show_link(begun: Begun, back_url: str, *, opens_browser: bool) -> None:
    _print_link(begun)
    _say(f"Waiting until the seller is sent back to {back_url}")
    _say("(the app's redirect URL in Partner Center must be just that). Ctrl-C ends the wait.")
    if opens_browser and sys.stdout.isatty() and _has_display():
        with suppress(webbrowser.Error):
            await asyncio.to_thread(webbrowser.open, begun.link)


def _print_link(begun: Begun) -> None:
    _say("Open this as the seller, and allow the access:")
    _say(f"  {begun.link}")


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _knows(url: str, begun: Begun) -> bool:
    """True when a daemon of the same database answers there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/oauth/begun/{begun.digest.hex()}", timeout=_LOOK_S) as answer:
            return bool(answer.status == 204)
    except (OSError, ValueError):
        return False


def _print_connected(rows: Sequence[ShopRow]) -> None:
    granted: frozenset[str] = frozenset()
    for row in rows:
        granted = row.shop.granted_scopes
        note = f"; it stays {row.shop.state}" if row.shop.state != "active" else ""
        _say(f"connected {row.shop.shop_id}  {row.shop.name} ({row.shop.region}){note}")
    for missing in missing_scopes(granted):
        what = (
            f"{' and '.join(missing.streams)} cannot be read" if missing.streams else "new shops go unnoticed"
        )
        _say(
            f"missing: the scope {missing.scope}: {what}. Switch it on in Partner Center > Manage API, then "
            "connect again"
        )
    if len(rows) > 1:
        _say("To leave one out: `shopsync shops disconnect ID`")
    _say("Next: `shopsync backfill` for history, or `shopsync run` to keep the copy true.")


def _say(line: str) -> None:
    results_console().print(line, markup=False, soft_wrap=True)
    sys.stdout.flush()
