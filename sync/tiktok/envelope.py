"""From the bytes of an answer to a page of records, reading only what a walk needs.

Records stay bytes: Postgres takes them apart. Only their ids are looked at here. What Postgres
does not hold (NUL, lone surrogates, invalid UTF-8, NaN, nesting without end) is replaced by
U+FFFD, record by record, and said; every other byte stays as it came.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TypeVar

import msgspec

from sync.errors import RequestError
from sync.model import Page, Record

# What follows a backslash that may begin NUL or half of a surrogate pair: worth a slow look, no more.
_SUSPICIOUS = (b"u0000", b"ud8", b"ud9", b"uda", b"udb", b"udc", b"udd", b"ude", b"udf")
# Any escape, or a pair of surrogates as one; in group 1 what Postgres cannot hold.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
_REPLACEMENT = rb"\ufffd"
_UNREADABLE = "\ufffd"
# Stretches that need no look; in group 1 what does: strings with escapes, brackets, and the literals
# that are no JSON.
_TOKEN = re.compile(
    rb'(?:[^"\[\]{}NI-]++|"[^"\\]*+"|-(?=[0-9]))++'
    rb'|("[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]|-?(?:NaN|Infinity))',
    re.DOTALL,
)
# Stands for whatever is mended before the records are told apart; as a NUL it is found again in them.
_MARK = rb"\u0000"
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_DEEPEST = 500
# Seconds at the end of the year 9999, the last that Python and most clients can hold.
_LATEST = 253_402_300_799
# Of a time or a count that is sent as text; Python refuses to read numbers without end.
_LONGEST_WHOLE = 20
# More records than any shop has: whoever counts so many does not count.
_HIGHEST_COUNT = 10**12
_PIECE_BYTES = 1 << 16
_LARGE_BYTES = 1 << 20


class Envelope(msgspec.Struct):
    """What every answer of TikTok Shop is wrapped in."""

    code: int | None = None
    message: str = ""
    request_id: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Listing(msgspec.Struct):
    """What is read of an envelope's data; ``records`` goes by the name that the stream gives it."""

    records: list[msgspec.Raw] | None = None
    next_page_token: msgspec.Raw = msgspec.Raw(b"null")
    total_count: msgspec.Raw = msgspec.Raw(b"null")


class _Peek(msgspec.Struct):
    """What is read of a record; ``key`` goes by the name that the stream gives it."""

    key: str | int | None = None
    update_time: str | int | None = None


_Read = TypeVar("_Read")
_Named = TypeVar("_Named", _Listing, _Peek)
_envelope_decoder = msgspec.json.Decoder(Envelope)
_utf8_decoder = codecs.getincrementaldecoder("utf-8")
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


@cache
def _decoder(shape: type[_Named], field: str, name: str) -> msgspec.json.Decoder[_Named | None]:
    """Reads the shape where its ``field`` is called ``name``."""
    fields = [
        (f.name, f.type, msgspec.field(default=f.default, name=name if f.name == field else f.name))
        for f in msgspec.structs.fields(shape)
    ]
    named = msgspec.defstruct(shape.__name__, fields, bases=(shape,), gc=False)
    return msgspec.json.Decoder(named | None)


async def read_aside(read: Callable[[], _Read], *, size: int) -> _Read:
    """What ``read`` returns; in a thread where so many bytes would keep everything else waiting."""
    return read() if size < _LARGE_BYTES else await asyncio.to_thread(read)


def read_envelope(body: bytes) -> Envelope:
    """The envelope; raises RequestError when the bytes are not one."""
    try:
        envelope = _envelope_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        envelope = _read_leniently(body)
    if envelope.code is None:
        raise RequestError("the answer has no code: not from TikTok Shop, or cut off")
    # Messages end in logs and in Postgres.
    envelope.message = envelope.message.replace("\x00", _UNREADABLE)
    return envelope


def read_page(data: bytes, *, records: str, key: str, fetched_at: datetime) -> Page:
    """The page in an envelope's ``data``; raises RequestError when its shape is not a page's.

    An absent or null list is an empty page unless the count says otherwise.
    """
    try:
        listing = _decoder(_Listing, "records", records).decode(data) or _Listing()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the answer's {records!r} is not a list of records: {error}") from None
    total = _read_whole(listing.total_count)
    token = _read_text(listing.next_page_token) or None
    if listing.records is None and token is None and total:
        raise RequestError(f"the answer counts {total} records and shows no {records!r}")
    # One look at the whole page spares a look at each record.
    is_clean = not _is_suspicious(data)
    peek = _decoder(_Peek, "key", key)
    return Page(
        records=tuple([_read_record(bytes(e), key, peek, is_clean) for e in listing.records or ()]),
        next_token=token,
        total=total,
        fetched_at=fetched_at,
    )


def _read_record(raw: bytes, key: str, peek: msgspec.json.Decoder[_Peek | None], is_clean: bool) -> Record:
    scrubbed = False
    if not is_clean and _is_suspicious(raw):
        clean = scrub(raw)
        scrubbed = clean != raw
        raw = clean
    try:
        seen = peek.decode(raw) or _Peek()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen = _peek_leniently(raw, key)
    name = "" if seen.key is None else str(seen.key)
    # What was replaced in an id told records apart: without it they would pass for one.
    is_usable = name != "" and not (scrubbed and _UNREADABLE in name)
    return Record(name if is_usable else None, raw, scrubbed, _read_time(seen))


def _is_suspicious(raw: bytes) -> bool:
    """True when there may be something in it that Postgres cannot hold."""
    if not _is_utf8(raw):
        return True
    # Most pages hold few backslashes, and one byte is found far faster than a pattern.
    return any(piece[:5].lower().startswith(_SUSPICIOUS) for piece in raw.split(b"\\")[1:])


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    # Piece by piece: one character beyond the common ones makes four bytes of each.
    decoder = _utf8_decoder()
    try:
        for start in range(0, len(raw), _PIECE_BYTES):
            decoder.decode(raw[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _peek_leniently(raw: bytes, key: str) -> _Peek:
    """What can be read of a record in which one of the two is of an unheard-of type."""
    try:
        members = _object_decoder.decode(raw) or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Peek()
    return _Peek(_read_scalar(members.get(key)), _read_scalar(members.get("update_time")))


def _read_time(seen: _Peek) -> int | None:
    time = seen.update_time
    if isinstance(time, str):
        time = int(time) if len(time) <= _LONGEST_WHOLE and time.isascii() and time.isdecimal() else None
    return time if time is not None and 0 < time <= _LATEST else None


def scrub(raw: bytes) -> bytes:
    """The same JSON with U+FFFD in place of what Postgres cannot hold; unchanged if there is nothing.

    A pair of surrogates is a character and stays; only halves are replaced.
    """
    return _mend_escapes(raw.decode("utf-8", "replace").encode(), _REPLACEMENT)


def _mend_escapes(raw: bytes, replacement: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: replacement if found[1] else found[0], raw)


def _read_leniently(body: bytes) -> Envelope:
    """The envelope of an answer that a strict reader refuses whole because of one value in it."""
    try:
        members = _object_decoder.decode(_mend(body)) or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Nothing of it is shown: it may be a piece of a token, or of an order.
        digest = hashlib.sha256(body).hexdigest()[:12]
        raise RequestError(
            f"the answer is {_describe(body)} ({len(body)} bytes, SHA-256 {digest}...)"
        ) from None
    code = _read_scalar(members.get("code"))
    return Envelope(
        code=code if isinstance(code, int) else None,
        message=_read_text(members.get("message")),
        request_id=_read_text(members.get("request_id")),
        data=members.get("data", msgspec.Raw(b"null")),
    )


def _describe(body: bytes) -> str:
    start = body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "empty"
    if start.startswith(b"<"):
        return "a page of HTML or XML and no JSON"
    return "JSON that is cut off or damaged" if start.startswith(b"{") else "not a JSON object"


def _mend(body: bytes) -> bytes:
    """The body with a mark in place of each value that a strict reader refuses."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    mended = _NO_UTF8.sub(lambda _: _MARK.decode(), text).encode()
    pieces: list[bytes] = []
    depth = place = 0
    for found in _TOKEN.finditer(mended):
        token = found[1]
        if token is None:
            continue
        was_kept = depth <= _DEEPEST
        depth += (token in b"[{") - (token in b"]}")
        if depth == _DEEPEST and not was_kept:
            place = found.end()
        elif was_kept and (instead := _mend_token(token, depth)) != token:
            pieces += (mended[place : found.start()], instead)
            place = found.end()
    return b"".join([*pieces, mended[place:]])


def _mend_token(token: bytes, depth: int) -> bytes:
    """What stands in its place; ``depth`` is that of what follows it."""
    if token.startswith(b'"'):
        return _mend_escapes(token, _MARK)
    return token if token in b"[]{}" and depth <= _DEEPEST else b'"' + _MARK + b'"'


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
    if isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_WHOLE:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= _HIGHEST_COUNT else None
