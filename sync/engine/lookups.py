"""Records that are asked for by name, in the shape in which the rounds would find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from sync.clock import utc_now
from sync.engine.api import ShopApi
from sync.engine.requests import RunReport, StreamProgress
from sync.engine.run import Run
from sync.errors import BadRequestError, SliceTooBigError
from sync.model import Page, Record, Tally, Window, whole_second
from sync.store.hints import REREAD, Hint
from sync.store.leases import Lease
from sync.store.ledger import Aside
from sync.store.page_writer import Target
from sync.store.sink import Sink
from sync.streams.base import Body, Lookup, Stream, TimeWindows
from sync.streams.notifications import CONSENT
from sync.streams.registry import STREAMS

# One id that TikTok refuses among fifty is found by a dozen.
_MOST_REFUSALS = 16
# What is read by a window of the search: how wide it is, and how many of its pages are looked at.
_NEAR = timedelta(seconds=60)
_TOGETHER = timedelta(seconds=120)
_MOST_PAGES = 5
_GRAIN = timedelta(seconds=1)
# Of time, that one row of the ledger sums up.
_ONE_ROW = timedelta(seconds=60)

_Outcome = tuple[list[Hint], list[Hint]]
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Lookups:
    """Reads records of one shop by their ids and stores them. No slice is closed, nothing is covered."""

    def __init__(self, *, api: ShopApi, sink: Sink, lease: Lease, run: Run, report: RunReport) -> None:
        self._api = api
        self._sink = sink
        self._lease = lease
        self._run = run
        self._report = report
        # Rows of the ledger that sum up what is read out of turn, by stream and source.
        self._asides: dict[tuple[str, str], Aside] = {}

    def select(self, hints: Sequence[Hint]) -> list[Hint]:
        """Those of the hints, all of one stream, that fit into one call; the first is among them.

        All of one source, so that the ledger can tell why a version came.
        """
        hints = [hint for hint in hints if hint.source == hints[0].source]
        stream = STREAMS.get(hints[0].stream)
        if stream is None:
            return list(hints[:1])
        if stream.lookup is not None:
            return list(hints[: stream.lookup.size])
        middle = _changed_at(hints[0])
        near = [hint for hint in hints if abs(_changed_at(hint) - middle) <= _TOGETHER]
        return near[: stream.page_size]

    async def read(self, hints: Sequence[Hint]) -> _Outcome:
        """Which of the hints are settled, and which have to be tried again. Raises what the API raises."""
        if hints[0].stream == CONSENT:
            await self._api.check_consent()
            return list(hints), []
        stream = STREAMS[hints[0].stream]
        if stream.lookup is None:
            return await self._search(stream, hints)
        return await self._look_up(stream, stream.lookup, hints)

    async def _look_up(self, stream: Stream, lookup: Lookup, hints: Sequence[Hint]) -> _Outcome:
        """All are settled, found or not, unless TikTok refuses too often."""
        waiting, settled, refusals = [list(hints)], list[Hint](), 0
        while waiting and refusals < _MOST_REFUSALS:
            part = waiting.pop()
            keys = tuple(hint.key for hint in part)
            asked = replace(
                stream, method=lookup.method, path=lookup.path, query=lookup.query(keys), page_size=None
            )
            try:
                page = await self._fetch(asked, None if lookup.body is None else lookup.body(keys))
            except (BadRequestError, SliceTooBigError):
                refusals += 1
                if len(part) > 1:
                    # One id may spoil the answer for all: the halves find it.
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
                    continue
            else:
                await self._store(stream, _without(page, lookup.without), hints[0])
            settled += part
        return settled, [hint for part in waiting for hint in part]

    async def _search(self, stream: Stream, hints: Sequence[Hint]) -> _Outcome:
        """Settled is what the search shows of the moments at which TikTok says that it changed."""
        if not isinstance(stream.slicing, TimeWindows):
            raise TypeError(f"{stream.name} can be read neither by ids nor by windows")
        moments = [_changed_at(hint) for hint in hints]
        # Nothing has changed in the future, whatever a notification says.
        until = whole_second(min(max(moments) + _NEAR, self._api.clock.now() + _GRAIN))
        window = Window(min(whole_second(min(moments) - _NEAR), until - _GRAIN), until)
        missing = {hint.key for hint in hints}
        for body in stream.slicing.bodies:
            token = None
            for _ in range(_MOST_PAGES):
                if not missing:
                    break
                page = await self._fetch(stream, body(window), token)
                await self._store(stream, page, hints[0])
                missing -= {record.key for record in page.records if record.key is not None}
                token = page.next_token
                if token is None:
                    break
        # Perhaps the search does not show it yet.
        return _parted(hints, lambda hint: hint.key not in missing)

    async def _fetch(self, stream: Stream, body: Body | None, token: str | None = None) -> Page:
        # A lane of its own: it takes turns with what is live of the rounds.
        lane = replace(stream, name=f"{stream.name} hinted")
        page, requests = await self._api.fetch(lane, body, page_token=token, is_live=True)
        self._note(stream, Tally(requests=requests))
        return page

    async def _store(self, stream: Stream, page: Page, hint: Hint) -> None:
        if page.records:
            target = Target(stream=stream.name, statement=stream.statement)
            aside = await self._aside(stream, hint)
            write = self._sink.write(target, page, lease=self._lease, aside=aside, is_urgent=True)
            self._note(stream, await write)

    async def _aside(self, stream: Stream, hint: Hint) -> Aside:
        """The row of the ledger that accounts for it; another one each minute."""
        now, place = utc_now(), (stream.name, hint.source)
        aside = self._asides.get(place)
        if aside is None or now - aside.started_at >= _ONE_ROW:
            slice_id = await self._sink.draw_slice_id()
            verdict: Literal["reread", "notification"] = "reread" if hint.source == REREAD else "notification"
            aside = self._asides[place] = Aside(
                slice_id, self._run.run_id, self._run.reason, verdict, started_at=now
            )
        return aside

    def _note(self, stream: Stream, tally: Tally) -> None:
        self._report.streams.setdefault(stream.name, StreamProgress(finished=True)).tally.add(tally)


def _changed_at(hint: Hint) -> datetime:
    return hint.changed_at or hint.heard_at


def _parted(hints: Sequence[Hint], is_settled: Callable[[Hint], bool]) -> _Outcome:
    return [h for h in hints if is_settled(h)], [h for h in hints if not is_settled(h)]


def _without(page: Page, names: frozenset[str]) -> Page:
    """The page as the search would show it: its bytes are compared with what is stored."""
    return replace(page, records=tuple(strip(record, names) for record in page.records)) if names else page


def strip(record: Record, names: frozenset[str]) -> Record:
    """The record without these members, every other byte of its members as it came."""
    try:
        members = _decode_members(record.raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return record  # Whatever it is, it is the store's to refuse.
    if names.isdisjoint(members):
        return record
    kept = (
        msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in members.items() if name not in names
    )
    return msgspec.structs.replace(record, raw=b"{" + b",".join(kept) + b"}")
