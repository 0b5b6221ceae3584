"""Page tokens and the slice of a live result that each one stands for."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from sync.simulator.rows import Key

_PAYLOAD = struct.Struct(">8sBdqq")
_NONCE_BYTES = 8
_SEAL_BYTES = 8
_PLAIN = re.compile(rb"(offset|after|snapshot)=(\d+)(?::(\d+))?\n?")
_KINDS = ("offset", "after", "snapshot")
_MOST_SNAPSHOTS = 256


class BadPageTokenError(Exception):
    """The token is not one of ours, belongs to another search, or is too old."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page starts: at an offset, after a key, or at an offset of a kept snapshot."""

    kind: str
    first: int
    second: int = 0


@dataclass(slots=True)
class SealedTokens:
    """Tokens that say nothing to a reader and fit only the search they were made for.

    They are base64 with both + and / in it, the two letters that a careless query string loses.
    """

    secret: bytes = field(default_factory=lambda: os.urandom(32))

    def write(self, place: Place, search: str, *, now: float) -> str:
        """A token for this place of this search."""
        payload = _PAYLOAD.pack(_digest(search), _KINDS.index(place.kind), now, place.first, place.second)
        while True:
            nonce = os.urandom(_NONCE_BYTES)
            hidden = self._veil(nonce, payload)
            token = base64.b64encode(nonce + hidden + self._seal(nonce + hidden)).decode()
            if "+" in token and "/" in token:
                return token

    def read(self, token: str, search: str, *, oldest: float) -> Place:
        """The place a token stands for.

        Raises BadPageTokenError unless it was made for ``search``, not before ``oldest``.
        """
        try:
            raw = base64.b64decode(token, validate=True)
        except ValueError as wrong:
            raise BadPageTokenError(token) from wrong
        nonce, hidden, seal = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
        if len(hidden) != _PAYLOAD.size or self._seal(nonce + hidden) != seal:
            raise BadPageTokenError(token)
        digest, kind, written, first, second = _PAYLOAD.unpack(self._veil(nonce, hidden))
        if digest != _digest(search) or written < oldest:
            raise BadPageTokenError(token)
        return Place(_KINDS[kind], first, second)

    def _veil(self, nonce: bytes, text: bytes) -> bytes:
        mask = hashlib.blake2b(nonce, key=self.secret, digest_size=len(text)).digest()
        return (int.from_bytes(text, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(text), "big")

    def _seal(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self.secret, digest_size=_SEAL_BYTES, person=b"seal").digest()


class PlainTokens:
    """Tokens as product search sends them: base64 of ``offset=N`` and a newline, bound to nothing."""

    def write(self, place: Place, search: str, *, now: float) -> str:
        """A token for this place."""
        text = f"{place.kind}={place.first}" + (f":{place.second}" if place.kind != "offset" else "")
        return base64.b64encode(f"{text}\n".encode()).decode()

    def read(self, token: str, search: str, *, oldest: float) -> Place:
        """The place a token stands for. Raises BadPageTokenError when it does not decode."""
        try:
            found = _PLAIN.fullmatch(base64.b64decode(token, validate=True))
        except ValueError as wrong:
            raise BadPageTokenError(token) from wrong
        if found is None:
            raise BadPageTokenError(token)
        return Place(found[1].decode(), int(found[2]), int(found[3] or 0))


@dataclass(slots=True)
class Snapshots:
    """Results kept as they were at the first page, the oldest forgotten beyond a few hundred."""

    _kept: OrderedDict[int, list[bytes]] = field(default_factory=OrderedDict)
    _last: int = 0

    def keep(self, bodies: list[bytes]) -> int:
        """The result is kept under the number returned."""
        self._last += 1
        self._kept[self._last] = bodies
        if len(self._kept) > _MOST_SNAPSHOTS:
            self._kept.popitem(last=False)
        return self._last

    def get(self, number: int) -> list[bytes]:
        """The kept result. Raises BadPageTokenError when it is forgotten."""
        try:
            return self._kept[number]
        except KeyError as gone:
            raise BadPageTokenError(str(number)) from gone


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a search as they are now, in order, countable without being read."""

    total: int
    keys: Callable[[int, int], list[Key]]
    rank_after: Callable[[Key], int]
    body: Callable[[Key], bytes]

    def bodies(self, offset: int, size: int) -> list[bytes]:
        """The encoded records at [offset, offset + size)."""
        return [self.body(key) for key in self.keys(offset, size)]


def _digest(search: str) -> bytes:
    return hashlib.blake2b(search.encode(), digest_size=8).digest()
