"""Notifications of TikTok Shop: proven by their signature, kept as hints, answered at once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from sync import metrics
from sync.errors import DatabaseError, SettingsError
from sync.store.hints import Heard, Hints
from sync.streams.notifications import CONSENT_ENDS, KNOWN_TYPES, Notification, read_notification
from sync.tiktok.apps import Apps
from sync.web.doorman import Refusal

log = structlog.get_logger(__name__)

PATH = "/webhooks/tiktok"
_MAX_BODY_BYTES = 256 * 1024
_READ_S = 5.0
# TikTok Shop waits 3 s for an answer and sends again what had none.
_STORE_S = 2.5
_SAY_EVERY_S = 60.0
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_BEGINNING = f"POST {PATH} HTTP/1.1\r\n".encode()
# A head on whose meaning everybody agrees: others may see a line, or a name, where we see none.
_LINE = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r\n]*"
_HEAD = re.compile(rb"%s(?:%s\r\n)+" % (re.escape(_BEGINNING), _LINE))
# Where one of these stands, or anything stands twice, it takes a whole server to read the request.
_INVOLVED = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"content-encoding"})
_UNSIGNED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nServer: shopsync\r\n"
_REFUSAL = Refusal(_UNSIGNED + b"\r\n")
_LAST_REFUSAL = Refusal(_UNSIGNED + b"Connection: close\r\n\r\n", is_last=True)


class Webhooks:
    """Receives notifications for all configured apps. ``heard`` is told each shop that has new hints."""

    def __init__(self, *, apps: Apps, hints: Hints, heard: Callable[[str], None]) -> None:
        self._signers = tuple(_signers(apps))
        self._hints = hints
        self._heard = heard
        self._refusals: dict[str, int] = {}
        self._say_at = 0.0

    def judge(self, data: bytes) -> Refusal | None:
        """The refusal of what is plainly one whole notification that no app of ours has signed."""
        if not data.startswith(_BEGINNING):
            return None
        head, end, body = data.partition(b"\r\n\r\n")
        if not end or not _HEAD.fullmatch(head + b"\r\n"):
            return None
        fields: dict[bytes, bytes] = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name in fields or name in _INVOLVED:
                return None
            fields[name] = value.strip()
        if fields.get(b"content-length") != b"%d" % len(body):
            return None
        signature = fields.get(b"authorization", b"").decode("latin-1")
        if _SIGNATURE.fullmatch(signature) and self._find_signers(body, signature):
            return None
        self._complain("forged")
        metrics.NOTIFICATIONS.labels("none", "forged").inc()
        return (
            _REFUSAL if fields.get(b"connection", b"keep-alive").lower() == b"keep-alive" else _LAST_REFUSAL
        )

    async def receive(self, request: web.Request) -> web.Response:
        """200 once its hints are stored, 401 for a forgery, 503 to have it sent again."""
        signature = request.headers.get(hdrs.AUTHORIZATION, "")
        if not _SIGNATURE.fullmatch(signature):
            return self._refuse("forged", HTTPStatus.UNAUTHORIZED)
        if (request.content_length or 0) > _MAX_BODY_BYTES:
            return self._refuse("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            async with asyncio.timeout(_READ_S):
                body = await _read_bounded(request)
        except TimeoutError:
            return self._refuse("slow", HTTPStatus.REQUEST_TIMEOUT)
        if body is None:
            return self._refuse("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        signed_by = self._find_signers(body, signature)
        if not signed_by:
            return self._refuse("forged", HTTPStatus.UNAUTHORIZED)
        return await self._take(body, signed_by)

    def _find_signers(self, body: bytes, signature: str) -> list[str]:
        """The apps whose secret signed the body; all are tried, so that time tells nothing."""
        found = []
        for name, prepared in self._signers:
            mac = prepared.copy()
            mac.update(body)
            if hmac.compare_digest(mac.hexdigest(), signature):
                found.append(name)
        return found

    async def _take(self, body: bytes, signed_by: Sequence[str]) -> web.Response:
        notification = read_notification(body)
        if notification is None:
            return _count("other", "unreadable")
        type_ = str(notification.type) if notification.type in KNOWN_TYPES else "other"
        if not notification.hints:
            return _count(type_, "unused")
        if not notification.shop_id:
            return _count(type_, "unreadable")
        try:
            async with asyncio.timeout(_STORE_S):
                outcome = await self._store(notification, signed_by)
        except (DatabaseError, TimeoutError) as error:
            reason = str(error) or "Postgres did not answer in time"
            self._complain("not_stored", reason=reason)
            return _count(type_, "not_stored", status=HTTPStatus.SERVICE_UNAVAILABLE)
        if outcome == "hinted":
            if notification.type == CONSENT_ENDS:
                log.warning("consent_end_announced", shop_id=notification.shop_id)
            self._heard(notification.shop_id)
        return _count(type_, outcome)

    async def _store(self, notification: Notification, signed_by: Sequence[str]) -> str:
        outcome = "other_app"
        for app in signed_by:  # More than one only where two names stand for the same app.
            heard = Heard(
                notification_id=notification.notification_id,
                shop_id=notification.shop_id,
                app=app,
                changed_at=notification.changed_at,
                hints=notification.hints,
            )
            outcome = await self._hints.hear(heard)
            if outcome != "other_app":
                break
        return outcome

    def _refuse(self, outcome: str, status: HTTPStatus) -> web.Response:
        self._complain(outcome)
        response = _count("none", outcome, status=status)
        if outcome != "forged":
            response.force_close()  # What is left of the body is nobody's.
        return response

    def _complain(self, outcome: str, *, reason: str = "") -> None:
        """One line a minute: whoever forges notifications may send thousands a second."""
        self._refusals[outcome] = self._refusals.get(outcome, 0) + 1
        now = time.monotonic()
        if now >= self._say_at:
            log.warning("notifications_refused", **self._refusals, **({"reason": reason} if reason else {}))
            self._refusals.clear()
            self._say_at = now + _SAY_EVERY_S


def _signers(apps: Apps) -> list[tuple[str, hmac.HMAC]]:
    """Each app with its signature of a body begun: the key, and the app key that goes first."""
    signers = []
    for name in apps.names:
        with suppress(SettingsError):
            keys = apps.get(name).keys
            prepared = hmac.new(keys.app_secret.encode(), keys.app_key.encode(), hashlib.sha256)
            signers.append((name, prepared))
    return signers


async def _read_bounded(request: web.Request) -> bytes | None:
    """The body as it came; None when it is larger than any notification."""
    chunks, size = [], 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _count(type_: str, outcome: str, *, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    metrics.NOTIFICATIONS.labels(type_, outcome).inc()
    return web.Response(status=status)
