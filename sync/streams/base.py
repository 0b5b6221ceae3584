"""What a stream is: an entity of the API, how it is asked for and where its records go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync.model import Window

Body = Mapping[str, Any]
BodyOf = Callable[[Window], Body]


@dataclass(frozen=True, slots=True)
class TimeWindows:
    """Sliced by update time. Each body is one walk over the window; all of them cover it.

    ``is_ordered`` says that pages come in the order of update time, oldest first; only a stream of
    a single body may claim it.
    """

    bodies: tuple[BodyOf, ...]
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class ParentKeys:
    """Sliced by the keys of another stream, ``size`` in a call; ``keys`` names the statement that lists them.

    ``after`` is the stream that must be read first for the keys to be there.
    """

    keys: str
    size: int
    after: str
    body: Callable[[tuple[str, ...]], Body]


@dataclass(frozen=True, slots=True)
class WholeList:
    """Not sliced: one unpaged answer holds everything."""


Slicing = TimeWindows | ParentKeys | WholeList


@dataclass(frozen=True, slots=True)
class Lookup:
    """How records are asked for by their ids, at most ``size`` in a call.

    ``without`` are members that the search does not have: left in, a record would differ by its source.
    """

    method: str
    path: str
    size: int
    query: Callable[[tuple[str, ...]], Mapping[str, str]] = lambda _: {}
    body: Callable[[tuple[str, ...]], Body] | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Census:
    """How TikTok Shop counts a part of a stream by time of creation, and which stored rows are the same.

    The rows are those of the statements ``count_NAME``, ``ids_NAME`` and ``cut_NAME``. ``alias`` is their
    name where TikTok Shop counts the rows of the stream's other census along with these. A search that
    finds more rows than ``largest_part`` may be refused.
    """

    name: str
    body: BodyOf
    query: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None
    largest_part: int = 10**9


@dataclass(frozen=True, slots=True)
class Stream:
    """One entity. ``records`` is the list in an answer's ``data``, ``key`` the id in each record.

    ``statement`` is the named statement that takes a page apart; ``scope`` what the seller must
    have granted; ``page_size`` is None where the endpoint does not page. ``webhooks`` are the types of
    notifications that hint at a change of a record, and ``named_by`` is the member that names it there;
    it is read by ``lookup``, or without one by a narrow window of the search. ``censuses`` are the counts
    that together count all of it; none where it is compared by its ids.
    """

    name: str
    method: str
    path: str
    records: str
    key: str
    scope: str
    statement: str
    slicing: Slicing
    page_size: int | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    webhooks: frozenset[int] = frozenset()
    named_by: str = ""
    lookup: Lookup | None = None
    censuses: tuple[Census, ...] = ()
