"""What a notification of TikTok Shop hints at. The only place that knows how ids stand in one.

A notification says that something changed, never what: nothing of it is stored but ids.
Source: the Partner Center guide "Webhooks overview" and the pages of the single types.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from sync.streams.registry import STREAMS

# The seller's consent was withdrawn, or is about to end: to be found out, not to be believed.
CONSENT = "consent"
DEAUTHORIZED = 6
CONSENT_ENDS = 7
_CONSENT_TYPES = frozenset({DEAUTHORIZED, CONSENT_ENDS})
# Stock that was changed has an id of the event besides that of the notification.
_STOCK_CHANGED = 71
KNOWN_TYPES = frozenset().union(_CONSENT_TYPES, *(stream.webhooks for stream in STREAMS.values()))

_ID = re.compile(r"[0-9]{1,25}")
_TYPE = re.compile(r"[0-9]{1,4}")
_LONGEST_ID = 100
_MOST_KEYS = 1_000
# Seconds between 2001 and 2128: anything else is no moment at which a shop changed.
_EARLIEST, _LATEST = 10**9, 5 * 10**9

_Members = dict[str, msgspec.Raw]
_decode_members = msgspec.json.Decoder(_Members).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification: ``hints`` are pairs of a stream and a key; none when it is of no use to us."""

    type: int
    notification_id: str
    shop_id: str
    changed_at: datetime | None
    hints: tuple[tuple[str, str], ...]


def read_notification(body: bytes) -> Notification | None:
    """The notification, or None when the bytes are not one that names a type.

    Ids are read from their digits: as numbers they are longer than a float, or 64 bits, can hold.
    """
    members = _read_members(body)
    type_ = _text(members.get("type"))
    if not _TYPE.fullmatch(type_):
        return None
    data = _read_members(members.get("data", b""))
    number = int(type_)
    shop_id = _text(members.get("shop_id"))
    name = _text(members.get("tts_notification_id"))
    if number == _STOCK_CHANGED:
        name = _text(data.get("event_id")) or name
        shop_id = shop_id or _text(data.get("shop_id"))
    if not name or len(name) > _LONGEST_ID or not name.isprintable():
        # Some have none: then the very same bytes are the same notification.
        name = "sha256:" + hashlib.sha256(body).hexdigest()
    return Notification(
        type=number,
        notification_id=name,
        shop_id=shop_id if _ID.fullmatch(shop_id) else "",
        changed_at=_moment(data.get("update_time")) or _moment(members.get("timestamp")),
        hints=tuple(_hints(number, data)),
    )


def _hints(number: int, data: _Members) -> Iterator[tuple[str, str]]:
    if number in _CONSENT_TYPES:
        yield CONSENT, ""
    for stream in STREAMS.values():
        if number in stream.webhooks:
            ids = dict.fromkeys(_ids(data, stream.named_by))
            yield from ((stream.name, key) for key in list(ids)[:_MOST_KEYS])


def _ids(data: _Members, name: str) -> Iterator[str]:
    """Ids under that name, or, where packages changed, in the list of each package."""
    found = [data.get(name)]
    for package in _read_list(data.get("package_list")):
        found += _read_list(_read_members(package).get(f"{name}_list"))
    for raw in found:
        if _ID.fullmatch(text := _text(raw)):
            yield text


def _read_members(raw: bytes | msgspec.Raw) -> _Members:
    try:
        return _decode_members(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _read_list(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    try:
        return _decode_list(raw or b"[]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _text(raw: msgspec.Raw | None) -> str:
    """A string, or a number as its digits; empty for anything else."""
    text = bytes(raw or b"")
    if text.startswith(b'"'):
        try:
            return msgspec.json.decode(text, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
    return text.decode() if text.isdigit() else ""


def _moment(raw: msgspec.Raw | None) -> datetime | None:
    digits = _text(raw)
    if not _ID.fullmatch(digits) or not _EARLIEST <= int(digits) < _LATEST:
        return None
    return datetime.fromtimestamp(int(digits), UTC)
