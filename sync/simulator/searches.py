"""Turns filters into a live selection of rows, and a selection with a page token into one page."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from sync.simulator.options import SimulatorOptions
from sync.simulator.paging import BadPageTokenError, Place, PlainTokens, SealedTokens, Selection, Snapshots
from sync.simulator.replies import RefusedError, invalid
from sync.simulator.rows import Key, Row, RowIndex, TimeField
from sync.simulator.webhooks import Webhooks

Bounds = tuple[int | None, int | None]
_ANY: Bounds = (None, None)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search asks for; times are half-open [ge, lt), ``keep`` is any further condition."""

    sort: TimeField
    descending: bool
    create: Bounds = _ANY
    update: Bounds = _ANY
    keep: Callable[[Row], bool] | None = None


@dataclass(slots=True)
class Page:
    """One page before encoding; no ``total`` leaves total_count out, no ``next_token`` ends the walk."""

    key: str
    rows: list[bytes]
    total: int | None = None
    next_token: str | None = None
    sent_token: str = ""
    is_paged: bool = False
    blank_last_token: bool = True
    is_null: bool = False

    def render(self, before: bytes, after: bytes) -> bytes:
        """The ``data`` object between two texts; an empty unpaged list is left out, as the platform does.

        One join copies the rows once: a page is some 300 KB, and every further copy shows.
        """
        if self.is_null or not self.rows:
            rows = b"null" if self.is_null else b"[]"
            body = b'"%b":%b' % (self.key.encode(), rows) if self.is_null or self.is_paged else b""
            return b"".join((before, b"{", self._head(), body, self._tail(), b"}", after))
        head = b"".join((before, b"{", self._head(), b'"%b":[' % self.key.encode(), self.rows[0]))
        if len(self.rows) == 1:
            return b"".join((head, b"]", self._tail(), b"}", after))
        tail = b"".join((self.rows[-1], b"]", self._tail(), b"}", after))
        return b",".join((head, *self.rows[1:-1], tail))

    def _head(self) -> bytes:
        if not self.is_paged or (self.next_token is None and not self.blank_last_token):
            return b""
        return b'"next_page_token":%b,' % msgspec.json.encode(self.next_token or "")

    def _tail(self) -> bytes:
        return b',"total_count":%d' % self.total if self.is_paged and self.total is not None else b""


def select(index: RowIndex, wanted: Filter) -> Selection:
    """The visible rows that match now, in the asked order."""
    keys = index.ordered(wanted.sort)
    own, other = (
        (wanted.update, wanted.create) if wanted.sort == "update_time" else (wanted.create, wanted.update)
    )
    low = 0 if own[0] is None else keys.bisect_left((own[0], 0))
    high = len(keys) if own[1] is None else keys.bisect_left((own[1], 0))
    high = max(low, high)
    shown = index.shown

    def body(key: Key) -> bytes:
        return shown[key[1]].body

    if wanted.keep is not None or other != _ANY:
        return _select_few(index, wanted, candidates=list(islice(keys, low, high)), body=body)

    def read(offset: int, size: int) -> list[Key]:
        if wanted.descending:
            end = max(high - offset, low)
            return list(keys.islice(max(end - size, low), end, reverse=True))
        start = min(low + offset, high)
        return list(keys.islice(start, min(start + size, high)))

    def rank_after(key: Key) -> int:
        rank: int = high - keys.bisect_left(key) if wanted.descending else keys.bisect_right(key) - low
        return min(max(rank, 0), high - low)

    return Selection(high - low, read, rank_after, body)


def _select_few(
    index: RowIndex, wanted: Filter, *, candidates: list[Key], body: Callable[[Key], bytes]
) -> Selection:
    shown, keep = index.shown, wanted.keep
    by_update = wanted.sort == "update_time"
    ge, lt = wanted.create if by_update else wanted.update
    kept = []
    for key in candidates:
        row = shown[key[1]]
        at = row.create_time if by_update else row.update_time
        if (ge is None or at >= ge) and (lt is None or at < lt) and (keep is None or keep(row)):
            kept.append(key)
    if wanted.descending:
        kept.reverse()

    def rank_after(key: Key) -> int:
        if wanted.descending:
            return bisect_right([(-at, -row_id) for at, row_id in kept], (-key[0], -key[1]))
        return bisect_right(kept, key)

    return Selection(len(kept), lambda offset, size: kept[offset : offset + size], rank_after, body)


@dataclass(slots=True)
class Pager:
    """Cuts pages out of selections, with the page tokens of its options."""

    rng: random.Random
    sealed: SealedTokens = field(default_factory=SealedTokens)
    plain: PlainTokens = field(default_factory=PlainTokens)
    snapshots: Snapshots = field(default_factory=Snapshots)

    def cut(
        self,
        selection: Selection,
        *,
        key: str,
        size: int,
        token: str,
        search: str,
        options: SimulatorOptions,
        now: float,
    ) -> Page:
        """The page that ``token`` stands for, or the first one; the search text binds sealed tokens."""
        codec = self.plain if key == "products" else self.sealed
        page = Page(
            key,
            [],
            selection.total,
            sent_token=token,
            is_paged=True,
            blank_last_token=self.rng.random() < 0.5,
        )
        oldest = 0.0 if options.page_token_life_s is None else now - options.page_token_life_s
        try:
            place = codec.read(token, search, oldest=oldest) if token else None
            following = self._fill(page, selection, place=place, size=size, options=options)
        except BadPageTokenError as bad:
            if options.bad_page_token == "empty":
                return page
            if options.bad_page_token == "first":
                following = self._fill(page, selection, place=None, size=size, options=options)
            elif options.bad_page_token == "endpoint_code" and key == "products":
                raise RefusedError(12019108, "page number is invalid") from bad
            else:
                raise invalid("page_token") from bad
        if following is not None:
            page.next_token = codec.write(following, search, now=now)
        return page

    def _fill(
        self, page: Page, selection: Selection, *, place: Place | None, size: int, options: SimulatorOptions
    ) -> Place | None:
        """Put the rows into the page; returns where the next one starts, None after the last."""
        kind = (
            place.kind
            if place
            else {"offset": "offset", "keyset": "after", "snapshot": "snapshot"}[options.paging]
        )
        if kind == "snapshot":
            return self._fill_from_snapshot(page, selection, place=place, size=size)
        if kind == "after":
            offset = selection.rank_after((place.first, place.second)) if place else 0
        else:
            offset = place.first if place else 0
        keys = selection.keys(offset, size)
        page.rows = [selection.body(key) for key in keys]
        end = offset + len(keys)
        if not keys or end >= selection.total:
            return None
        return Place("after", *keys[-1]) if kind == "after" else Place("offset", end)

    def _fill_from_snapshot(
        self, page: Page, selection: Selection, *, place: Place | None, size: int
    ) -> Place | None:
        number = place.first if place else self.snapshots.keep(selection.bodies(0, selection.total))
        offset = place.second if place else 0
        kept = self.snapshots.get(number)
        page.rows, page.total = kept[offset : offset + size], len(kept)
        end = offset + len(page.rows)
        return Place("snapshot", number, end) if end < len(kept) else None


@dataclass(frozen=True, slots=True)
class Desk:
    """What every endpoint is given besides the call: the options in force, the pager, the set addresses."""

    options: SimulatorOptions
    pager: Pager
    webhooks: Webhooks
