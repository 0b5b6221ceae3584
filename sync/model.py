"""The values that every layer speaks of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from sync.errors import ShopState


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open stretch of update time, [since, until), in UTC and whole seconds.

    Half-open, so neighbours share a bound but never a record.
    """

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise ValueError(f"empty window: {self.since} .. {self.until}")

    @property
    def seconds(self) -> int:
        return int((self.until - self.since).total_seconds())

    def cut(self, parts: int) -> list[Window]:
        """At most ``parts`` windows of whole seconds that tile this one, oldest first."""
        parts = max(1, min(parts, self.seconds))
        bounds = [self.since + timedelta(seconds=self.seconds * i // parts) for i in range(parts)]
        return [Window(a, b) for a, b in zip(bounds, [*bounds[1:], self.until], strict=True)]

    def __str__(self) -> str:
        return f"[{self.since:%Y-%m-%d %H:%M:%S}, {self.until:%Y-%m-%d %H:%M:%S}) UTC"


@dataclass(frozen=True, slots=True)
class Batch:
    """Parent keys that are asked for in one call, for entities without a time filter."""

    keys: tuple[str, ...]
    is_retry: bool = False

    def __str__(self) -> str:
        return f"{len(self.keys)} keys from {self.keys[0]}" if self.keys else "no keys"


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything there is, in one unpaged answer."""

    def __str__(self) -> str:
        return "everything"


Slice = Window | Batch | Whole


# No dataclass: a frozen one takes ten times as long to make, and every record read becomes one.
class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the API sent it. ``key`` is None when it has no usable id.

    ``time`` is its update time in seconds since 1970, None when it has none that can be read.
    """

    key: str | None
    raw: bytes
    scrubbed: bool = False
    time: int | None = None

    @property
    def digest(self) -> bytes:
        """128 bits that stand for these very bytes. Against accidents, not against forgers."""
        return hashlib.sha1(self.raw, usedforsecurity=False).digest()[:16]


@dataclass(frozen=True, slots=True)
class Page:
    """One response of a walk, and when the request for it was sent (by the API's clock)."""

    records: tuple[Record, ...]
    next_token: str | None
    total: int | None
    fetched_at: datetime


@dataclass(slots=True)
class Tally:
    """What happened to records on their way into the tables; sums of every stage."""

    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    stale: int = 0
    unchanged: int = 0
    rejected: int = 0
    requests: int = 0

    def add(self, other: Tally) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Shop:
    """A connected account, as a sync needs it."""

    shop_id: str
    name: str
    region: str
    app: str
    credential_id: int
    cipher: str = field(repr=False)
    state: ShopState = "active"
    granted_scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tokens:
    """A pair of tokens and whom they speak for. Both expiries are moments, not durations.

    ``obtained_at`` is by TikTok's clock, like the expiries: a wrong clock here must not move their half-life.
    """

    access_token: str = field(repr=False)
    access_expires_at: datetime
    refresh_token: str = field(repr=False)
    refresh_expires_at: datetime
    obtained_at: datetime
    open_id: str
    seller_name: str
    seller_region: str
    granted_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthorizedShop:
    """A shop that a token may read, with the cipher that names it in every call."""

    shop_id: str
    name: str
    region: str
    seller_type: str
    code: str
    cipher: str = field(repr=False)


def epoch(moment: datetime) -> int:
    """Whole seconds since 1970: TikTok's way to write times."""
    return int(moment.timestamp())


def whole_second(moment: datetime) -> datetime:
    """The start of the second: windows have whole-second bounds because the API has."""
    return moment.replace(microsecond=0)
