"""Checks at TikTok Shop: hosts, clocks, apps, and what each seller's consent reaches. Nothing is changed.

It costs one request per host, app and seller, and one per shop where webhooks are looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import TypeVar

from sync.clock import utc_now
from sync.engine.findings import Finding
from sync.engine.registrations import EVENT_TYPES, missing_types
from sync.errors import (
    AppError,
    NeedsReauthError,
    RequestError,
    ScopeError,
    SettingsError,
    SyncError,
    TokenError,
)
from sync.model import AuthorizedShop
from sync.store.shops import ShopRow
from sync.store.tokens import Credential
from sync.tiktok.apps import Apps, ConnectedApp
from sync.tiktok.client import Access, Call
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import list_shops
from sync.tiktok.probe import clock_ahead_s, prove_keys
from sync.tiktok.webhooks import list_registrations

_SKEW_WARNING_S = 5.0
_SKEW_PROBLEM_S = 30.0
_WARN_BEFORE = timedelta(days=30)
# All that is asked here together, whoever it is asked for: far below what any shop is allowed.
_PACE = 10.0
_AT_ONCE = 8
# A request is repeated in vain for minutes; a person who waits wants to hear of it before.
_PATIENCE_S = 30.0

_T = TypeVar("_T")
ReadCredential = Callable[[int], Awaitable[Credential]]


async def check_host(url: str) -> tuple[list[Finding], bool]:
    """Whether the host answers, and what its clock says of ours."""
    area = "TikTok Shop"
    try:
        ahead_s = await clock_ahead_s(url)
    except RequestError as error:
        todo = "check this machine's network, DNS and firewall, and the addresses in the settings"
        return [Finding(area, "problem", str(error), todo)], False
    found = [Finding(area, "ok", f"{url} answers")]
    if ahead_s is not None and abs(ahead_s) > _SKEW_WARNING_S:
        is_far = abs(ahead_s) > _SKEW_PROBLEM_S
        side = "ahead of" if ahead_s > 0 else "behind"
        what = f"this machine's clock is {abs(ahead_s):.0f} s {side} that of {url}"
        todo = "set the clock, and keep it right with NTP (`timedatectl set-ntp true`)"
        found.append(Finding("clock", "problem" if is_far else "warning", what, todo))
    elif ahead_s is not None:
        found.append(Finding("clock", "ok", f"it agrees with that of {url}"))
    return found, True


async def check_app(app: ConnectedApp) -> Finding:
    """Whether TikTok Shop knows the app by its key and secret."""
    area = "TikTok Shop"
    try:
        await prove_keys(app.client, app.keys)
    except AppError as error:
        return Finding(area, "problem", f"app {app.name} is refused", str(error))
    except SyncError as error:
        what = f"app {app.name}: whether key and secret belong together could not be found out ({error})"
        return Finding(area, "warning", what, "the first `shopsync shops connect` will tell")
    return Finding(area, "ok", f"app {app.name} is known by its key and secret")


class SellerCheckup:
    """Looks at the consent of each seller, and at the shops that it reaches."""

    def __init__(self, *, apps: Apps, read_credential: ReadCredential, receiver: str | None) -> None:
        """``receiver`` is the address that notifications should go to; None looks for no webhooks."""
        self._apps = apps
        self._read_credential = read_credential
        self._receiver = receiver
        self._pacer = Pacer(_PACE)
        self._seats = asyncio.Semaphore(_AT_ONCE)

    async def check(self, rows: Sequence[ShopRow], *, busy: frozenset[str]) -> list[Finding]:
        """What is found of each seller, in the order of the shops.

        ``busy`` are shops that a process reads at this moment: nothing is asked beside it.
        """
        ordered = sorted(rows, key=lambda row: row.shop.credential_id)
        groups = [list(group) for _, group in groupby(ordered, key=lambda row: row.shop.credential_id)]
        found = await asyncio.gather(*(self._check_seller(group, busy) for group in groups))
        return [finding for findings in found for finding in findings]

    async def _check_seller(self, rows: Sequence[ShopRow], busy: frozenset[str]) -> list[Finding]:
        name = _name_of(rows)
        connect = f"shopsync shops connect --app {rows[0].shop.app}"
        async with self._seats:
            try:
                credential = await self._read_credential(rows[0].shop.credential_id)
                app = self._apps.get(credential.app)
            except NeedsReauthError as error:
                return [Finding("sellers", "problem", f"{name}: {error}", connect)]
            except SettingsError as error:
                return [Finding("sellers", "problem", f"{name}: {error}")]
            if credential.needs_reauth is not None:
                what = f"{name}: {credential.needs_reauth}"
                return [Finding("sellers", "problem", what, f"let the seller consent again: {connect}")]
            found = [check_consent_end(name, credential.refresh_expires_at, connect=connect, now=utc_now())]
            if credential.access_expires_at <= app.client.clock.now():
                what = f"{name}: the access token has expired; it will be refreshed by the next sync"
                return [*found, Finding("sellers", "ok", what)]
            return [*found, *await self._check_reach(rows, app, credential, busy)]

    async def _check_reach(
        self, rows: Sequence[ShopRow], app: ConnectedApp, credential: Credential, busy: frozenset[str]
    ) -> list[Finding]:
        name = _name_of(rows)
        connect = f"shopsync shops connect --app {app.name}"
        try:
            reached = await _soon(
                list_shops(app.client, app.keys, credential.access_token, pacer=self._pacer)
            )
        except TokenError as error:
            what = f"{name}: the access token is refused before its time ({error})"
            todo = (
                f"the next sync tries a new one; if that fails too, let the seller consent again: {connect}"
            )
            return [Finding("sellers", "problem", what, todo)]
        except ScopeError:
            what = f"{name}: seller.authorization.info is not granted, so the shops cannot be listed"
            todo = (
                f"switch it on in Partner Center > Manage API, then let the seller consent again: {connect}"
            )
            return [Finding("sellers", "problem", what, todo)]
        except SyncError as error:
            return [Finding("sellers", "problem", f"{name}: {error}")]
        found = compare_shops(rows, reached, name=name, connect=connect)
        if self._receiver is not None:
            for row in rows:
                if row.shop.state == "active":
                    found.append(await self._check_webhooks(row, app, credential, busy))
        return found

    async def _check_webhooks(
        self, row: ShopRow, app: ConnectedApp, credential: Credential, busy: frozenset[str]
    ) -> Finding:
        shop = row.shop
        name = shop.name or shop.shop_id
        if shop.shop_id in busy:
            return Finding(
                "webhooks", "ok", f"{name} is being read just now, and was not asked for its webhooks"
            )
        access = Access(
            keys=app.keys, token=credential.access_token, cipher=shop.cipher, shop_id=shop.shop_id
        )

        async def send(call: Call) -> bytes:
            return (await app.client.send(call, access, pacer=self._pacer)).data

        try:
            registered = await _soon(list_registrations(send))
        except SyncError as error:
            return Finding("webhooks", "warning", f"{name}: the webhooks cannot be read ({error})")
        missing = missing_types(registered, self._receiver or "")
        if missing:
            what = (
                f"{name}: {len(missing)} of {len(EVENT_TYPES)} event types are not sent to {self._receiver}"
            )
            todo = (
                f"shopsync webhooks register --shop {shop.shop_id} (or set the app's URL in Partner Center)"
            )
            return Finding("webhooks", "warning", what, todo)
        return Finding("webhooks", "ok", f"{name}: all {len(EVENT_TYPES)} event types are registered")


async def _soon(answer: Awaitable[_T]) -> _T:
    try:
        return await asyncio.wait_for(answer, _PATIENCE_S)
    except TimeoutError:
        raise RequestError(f"TikTok Shop gave no good answer within {_PATIENCE_S:.0f} s") from None


def check_consent_end(name: str, ends_at: datetime, *, connect: str, now: datetime) -> Finding:
    """Whether the seller has to consent again soon."""
    day = f"{ends_at:%Y-%m-%d}"
    if ends_at <= now:
        todo = f"let the seller consent again: {connect}"
        return Finding("sellers", "problem", f"{name}: the consent ended on {day}", todo)
    if ends_at - now < _WARN_BEFORE:
        todo = f"let the seller consent again before: {connect}; nothing is lost by it"
        return Finding("sellers", "warning", f"{name}: the consent ends on {day}", todo)
    return Finding("sellers", "ok", f"{name}: the consent lasts until {day}")


def compare_shops(
    rows: Sequence[ShopRow], reached: Sequence[AuthorizedShop], *, name: str, connect: str
) -> list[Finding]:
    """What the consent reaches at TikTok Shop, against what is connected here."""
    there = {shop.shop_id: shop for shop in reached}
    found = []
    for row in rows:
        shop = row.shop
        if shop.shop_id not in there:
            what = f"{shop.name or shop.shop_id} is not reached by the consent of {name} any more"
            found.append(Finding("sellers", "problem", what, f"let the seller consent again: {connect}"))
        elif there[shop.shop_id].cipher != shop.cipher:
            what = f"{shop.name or shop.shop_id}: TikTok Shop has given the shop a new cipher"
            found.append(Finding("sellers", "warning", what, "nothing to do: the next sync takes it"))
    strangers = [shop.name or shop.shop_id for shop in reached if shop.shop_id not in _ids(rows)]
    if strangers:
        what = f"{name}: the consent reaches shops that are not connected: {', '.join(strangers)}"
        found.append(Finding("sellers", "ok", what))
    if not found:
        noun = "shop" if len(rows) == 1 else "shops"
        found.append(Finding("sellers", "ok", f"{name}: the access token works for {len(rows)} {noun}"))
    return found


def _ids(rows: Sequence[ShopRow]) -> set[str]:
    return {row.shop.shop_id for row in rows}


def _name_of(rows: Sequence[ShopRow]) -> str:
    return rows[0].seller_name or "an unnamed seller"
