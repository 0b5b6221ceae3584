"""From the bytes of an answer to a page of records, reading only what a walk needs.

Records stay bytes: Postgres takes them apart. Only their ids are looked at here. What JSON
allows and Postgres does not hold (NUL, lone surrogates, invalid UTF-8, NaN) is replaced by
U+FFFD or null, record by record, and said.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import msgspec

from sync.errors import RequestError
from sync.model import Page, Record

_REPLACEMENT = "\ufffd"
# Escapes that may be NUL or half of a surrogate pair: worth a slow look, no more.
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Envelope(msgspec.Struct):
    """What every answer of TikTok Shop is wrapped in."""

    code: int | None = None
    message: str = ""
    request_id: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _AnyKey(msgspec.Struct):
    id: str | int | None = None


_envelope_decoder = msgspec.json.Decoder(Envelope)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw] | None)


def read_envelope(body: bytes) -> Envelope:
    """The envelope; raises RequestError when the bytes are not one."""
    try:
        envelope = _envelope_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        envelope = _read_leniently(body)
    if envelope.code is None:
        raise RequestError("the answer has no code: not from TikTok Shop, or cut off")
    return envelope


def read_page(data: bytes, *, records: str, key: str, fetched_at: datetime) -> Page:
    """The page in an envelope's ``data``; raises RequestError when its shape is not a page's.

    An absent or null list is an empty page unless the count says otherwise.
    """
    try:
        members = _object_decoder.decode(data) or {}
        elements = _list_decoder.decode(members.get(records, msgspec.Raw(b"null"))) or []
    except msgspec.DecodeError as error:
        raise RequestError(f"the answer's {records!r} is not a list of records: {error}") from None
    total = _read_whole(members.get("total_count"))
    token = _read_text(members.get("next_page_token")) or None
    if not elements and token is None and total and records not in members:
        raise RequestError(f"the answer counts {total} records and shows no {records!r}")
    return Page(
        records=tuple(_read_record(bytes(e), key) for e in elements),
        next_token=token,
        total=total,
        fetched_at=fetched_at,
    )


def _read_record(raw: bytes, key: str) -> Record:
    scrubbed = False
    if _SUSPICIOUS.search(raw) or not _is_utf8(raw):
        clean = scrub(raw)
        scrubbed = clean != raw
        raw = clean
    return Record(key=_read_key(raw, key), raw=raw, scrubbed=scrubbed)


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_key(raw: bytes, key: str) -> str | None:
    try:
        found: object = (
            msgspec.json.decode(raw, type=_AnyKey).id
            if key == "id"
            else _read_scalar(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get(key))
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return str(found) if isinstance(found, (str, int)) and found != "" else None


def scrub(raw: bytes) -> bytes:
    """The same JSON with U+FFFD in place of what Postgres cannot hold; unchanged if there is nothing.

    A pair of surrogates is a character and stays; only halves are replaced.
    """
    value = json.loads(raw.decode("utf-8", "replace"), parse_constant=lambda _: None)
    cleaned, touched = _clean(value)
    if not touched and _is_utf8(raw):
        return raw
    return json.dumps(cleaned, ensure_ascii=False, separators=(",", ":")).encode()


def _clean(value: Any) -> tuple[Any, bool]:
    if isinstance(value, str):
        clean = _LONE_SURROGATE.sub(_REPLACEMENT, value.replace("\x00", _REPLACEMENT))
        return clean, clean != value
    if isinstance(value, list):
        pairs = [_clean(item) for item in value]
        return [item for item, _ in pairs], any(touched for _, touched in pairs)
    if isinstance(value, dict):
        items = [(_clean(k), _clean(v)) for k, v in value.items()]
        return {k[0]: v[0] for k, v in items}, any(k[1] or v[1] for k, v in items)
    return value, False


def _read_leniently(body: bytes) -> Envelope:
    """The envelope of an answer that a strict reader refuses whole because of one value in it."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        start = body[:60].decode("utf-8", "replace").strip()
        raise RequestError(f"the answer is not JSON; it starts with {start!r}") from None
    if not isinstance(value, dict) or not isinstance(value.get("code"), int):
        raise RequestError("the answer has no code: not from TikTok Shop, or cut off")
    data = json.dumps(value.get("data"), ensure_ascii=True).encode()
    return Envelope(
        code=value["code"],
        message=str(value.get("message") or ""),
        request_id=str(value.get("request_id") or ""),
        data=msgspec.Raw(data),
    )


def _read_scalar(raw: msgspec.Raw | None) -> str | int | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str | int | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_text(raw: msgspec.Raw | None) -> str:
    value = _read_scalar(raw)
    return value if isinstance(value, str) else ""


def _read_whole(raw: msgspec.Raw | None) -> int | None:
    value = _read_scalar(raw)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and value >= 0 else None
