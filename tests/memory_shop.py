"""A shop and its copy in memory, read by the real engine: thousands of requests in a second.

For answers that the simulator does not give. Time passes with the requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from sync.engine.requests import StreamProgress
from sync.engine.slice_sync import SliceSync
from sync.engine.stream_sync import Pace, Round, StreamSync
from sync.model import Page, Record, Tally, Window
from sync.streams.registry import STREAMS

BEGIN_S = 1_700_000_000
_REQUEST_S = 0.02
_LOOKBACK_S = 300
# Rows as (update second, id), the token, and how many a page holds, to the page's rows and the next token.
Paging = Callable[[list[tuple[int, int]], str | None, int], tuple[list[tuple[int, int]], str | None]]


def by_offset(
    rows: list[tuple[int, int]], token: str | None, size: int
) -> tuple[list[tuple[int, int]], str | None]:
    """Tokens that count rows: what leaves in front of them shifts the rest."""
    start = int(token or 0)
    return rows[start : start + size], str(start + size) if start + size < len(rows) else None


def by_time_alone(
    rows: list[tuple[int, int]], token: str | None, size: int
) -> tuple[list[tuple[int, int]], str | None]:
    """Tokens that name a second: the rest of the second at the end of a page never shows."""
    rest = [row for row in rows if row[0] > int(token or 0)]
    return rest[:size], str(rest[size - 1][0]) if len(rest) > size else None


class MemoryShop:
    """Rows with their update times, searched as ``paging`` does; ``stored`` is the copy.

    ``before`` is called before each request and may move rows, ``count`` may change what is counted,
    and ``answer`` the whole page; none of them once the shop is quiet.
    """

    def __init__(self, rows: dict[int, int], *, now_s: float, paging: Paging = by_offset) -> None:
        self.rows = rows
        self.stored: dict[int, int] = {}
        self.now_s = now_s
        self.requests = 0
        # Of the loop, that an answer takes.
        self.turns = 1
        self.closings: list[tuple[Window, str]] = []
        self.is_quiet = False
        self.before: Callable[[], None] = lambda: None
        self.count: Callable[[Any, int], int | None] = lambda _, total: total
        self.answer: Callable[[Page], Page] = lambda page: page
        # Whether a row of that second is in the window from one second to the other.
        self.is_shown: Callable[[int, int, int], bool] = lambda s, since, until: since <= s < until
        self.pacer = SimpleNamespace(rate=50_000.0, wait_until_idle=self._return_at_once)
        self._paging = paging
        self._settled: list[tuple[datetime, datetime]] = []

    @property
    def wrong(self) -> dict[int, tuple[int, int | None]]:
        """What is missing or old in the copy: the truth, and what is stored."""
        return {i: (s, self.stored.get(i)) for i, s in self.rows.items() if self.stored.get(i) != s}

    async def read(self, stream: str = "orders", *, parallel: int = 8) -> StreamSync:
        """One pass of the engine over all that is not settled."""
        sync = self.make_sync(stream, parallel=parallel, unfinished={stream})
        await sync.run(at(BEGIN_S), None, now=at(self.now_s))
        return sync

    async def read_in_quiet(self, stream: str = "orders", *, parallel: int = 8) -> StreamSync:
        """Another one, late enough for everything to be settled, in which nothing moves."""
        self.is_quiet = True
        self.now_s += _LOOKBACK_S + 100
        return await self.read(stream, parallel=parallel)

    def make_sync(
        self, stream: str, *, parallel: int, unfinished: set[str], interval_s: float = 1e6
    ) -> StreamSync:
        """The engine, ready to run; without its own name among the ``unfinished`` in a further pass."""
        double: Any = self
        lease: Any = SimpleNamespace(shop_id="1")
        return StreamSync(
            STREAMS[stream],
            make_slices=lambda has_moved: SliceSync(
                STREAMS[stream], api=double, sink=double, lease=lease, run_id=1, lookback_s=_LOOKBACK_S,
                has_moved=has_moved,
            ),
            cursors=double,
            database=double,
            pacer=double.pacer,
            shop_id="1",
            pace=Pace(settle_s=5, lookback_s=_LOOKBACK_S, interval_s=interval_s, parallel=parallel),
            round_=Round(unfinished, asyncio.Event(), first_pass_done={stream: asyncio.Event()}),
            progress=StreamProgress(),
        )  # fmt: skip

    # What the engine asks of the API.

    async def fetch(
        self, stream: Any, body: Any, *, page_token: str | None = None, is_live: bool = False
    ) -> tuple[Page, int]:
        self.requests += 1
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if not self.is_quiet:
            self.before()
        self.now_s += _REQUEST_S
        until = body["update_time_lt"] if "update_time_lt" in body else body["update_time_le"] + 1
        since = body["update_time_ge"]
        found = sorted((s, i) for i, s in self.rows.items() if self.is_shown(s, since, until))
        if body.get("status") == "DELETED":
            found = []
        shown, token = self._paging(found, page_token, stream.page_size)
        records = tuple(Record(str(i), f"{i} {s}".encode(), time=s) for s, i in shown)
        total = len(found) if self.is_quiet else self.count(body, len(found))
        page = Page(records, token, total, at(self.now_s))
        return (page if self.is_quiet else self.answer(page)), 1

    # What it asks of the database.

    async def write(
        self, _target: Any, page: Page | None, *, lease: Any, closing: Any = None, slice_id: Any = None
    ) -> Tally:
        await asyncio.sleep(0)
        for record in page.records if page else ():
            self.stored[int(record.key or 0)] = max(
                self.stored.get(int(record.key or 0), 0), record.time or 0
            )
        if closing is not None and closing.covers:
            window = closing.slice_
            self.closings.append((window, closing.verdict))
            self._settled.append((window.since, min(window.until, closing.settled_until)))
        return Tally(inserted=len(page.records) if page else 0)

    async def draw_slice_id(self) -> int:
        return 1

    async def wait_until_idle(self) -> None:
        """The pages that wait for the database: none ever do."""

    async def gaps(self, _shop_id: str, _stream: str, window: Window) -> list[Window]:
        gaps, reached = [], window.since
        for since, until in sorted(self._settled):
            if since > reached:
                gaps.append(Window(reached, since))
            reached = max(reached, until)
        return [*gaps, Window(reached, window.until)] if reached < window.until else gaps

    async def _return_at_once(self) -> None:
        pass


def spread(rows: int, *, seconds: int, choose: Callable[[int], int]) -> dict[int, int]:
    """So many rows, their update times chosen within so many seconds from the beginning."""
    return {i: BEGIN_S + choose(seconds) for i in range(rows)}


def page_size(stream: str, size: int) -> Any:
    """The stream with smaller pages, for ``monkeypatch.setitem(STREAMS, ...)``."""
    return dataclasses.replace(STREAMS[stream], page_size=size)


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)
