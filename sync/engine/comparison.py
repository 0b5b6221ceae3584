"""TikTok Shop's own counts beside the copy's, and where they differ: to the second and the id.

What was created in a stretch of past time never changes, so that both sides can be counted at leisure. A
stretch with equal counts costs one request; one that differs is halved until what is left fits on a
page, and is then compared by its ids.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sync.engine.comparison_io import ComparisonIO
from sync.engine.walk import Step, Walk
from sync.errors import SliceTooBigError
from sync.model import Page, Record, Window
from sync.streams.base import Census, Stream

# The most that TikTok Shop shows on a page.
_PAGE = 100
# More of a kind that one side lacks are not named one by one.
_MOST_NAMED = 1_000


class CountsContradictError(Exception):
    """TikTok Shop's counts cannot all be true; the message says which."""


class UncountedError(Exception):
    """TikTok Shop gives no count."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A stretch of creation time that only one side has all of.

    ``missing`` is shown and not stored, ``extra`` stored and not shown; ``hidden`` rows are counted, and
    neither shown nor stored. ``unnamed`` ones are shown without an id. A hole is too large to be named.
    """

    window: Window
    api_rows: int
    stored_rows: int
    fetched_at: datetime | None = None
    missing: Mapping[str, Record] = field(default_factory=dict)
    extra: frozenset[str] = frozenset()
    hidden: int = 0
    unnamed: int = 0
    is_hole: bool = False

    @property
    def rows(self) -> int:
        """How many rows more TikTok Shop has than the copy."""
        if self.is_hole:
            return self.api_rows - self.stored_rows
        return len(self.missing) + self.hidden + self.unnamed - len(self.extra)


@dataclass(frozen=True, slots=True)
class Listing:
    """All that TikTok Shop shows of a stretch; ``seen`` counts those without an id as well."""

    shown: dict[str, Record]
    seen: int
    total: int
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch with both counts; TikTok Shop's is None where it refuses to count so many."""

    window: Window
    api: int | None
    stored: int

    @property
    def is_listable(self) -> bool:
        if self.window.seconds == 1:
            return True
        return self.api is not None and self.stored <= _PAGE and self.api <= _MOST_NAMED

    @property
    def is_hole(self) -> bool:
        if self.api is None:
            return False
        return min(self.api, self.stored) <= _PAGE and max(self.api, self.stored) > _MOST_NAMED


class Comparison:
    """One census of one shop. ``counted`` sums up what TikTok Shop has counted of the stretches looked at."""

    def __init__(self, stream: Stream, census: Census, *, io: ComparisonIO) -> None:
        self.stream = stream
        self._lane = replace(
            stream, name=f"{stream.name} compared", query={**stream.query, **census.query}, page_size=_PAGE
        )
        self._census = census
        self._io = io
        self.books = io.books(census.name)
        self.counted = 0

    async def count(self, window: Window) -> int:
        """What TikTok Shop counts; raises SliceTooBigError where it refuses to."""
        page = await self._io.fetch(replace(self._lane, page_size=1), self._census.body(window))
        return _total(page)

    async def look(self, window: Window) -> list[Difference]:
        """Where the two sides differ; nothing when both have as many."""
        whole = await self._measure(window)
        self.counted += whole.api or 0
        found: list[Difference] = []
        waiting = [whole]
        while waiting:
            part = waiting.pop()
            if part.api == part.stored:
                continue
            if part.is_listable:
                found += await self._compare_ids(part.window)
            elif part.is_hole:
                found.append(Difference(part.window, part.api or 0, part.stored, is_hole=True))
            else:
                waiting += await self._halve(part)
        if whole.api is not None and sum(d.rows for d in found) != whole.api - whole.stored:
            await self._count_again(window, whole.api, found)
        return found

    async def show(self, window: Window) -> Listing:
        """All that TikTok Shop shows of the stretch, however many pages that takes."""
        walk, shown = Walk(), dict[str, Record]()
        async for page in self.pages(window, walk):
            shown.update((record.key, record) for record in page.records if record.key is not None)
        if walk.started_at is None or walk.last_total is None:
            raise UncountedError("TikTok Shop's answer has no total_count")
        return Listing(shown, len(walk.seen), walk.last_total, walk.started_at)

    async def pages(self, window: Window, walk: Walk) -> AsyncIterator[Page]:
        """The pages of the stretch, by time of creation: nothing enters it or leaves it meanwhile."""
        token, step = None, Step.NEXT
        while step is not Step.END:
            page = await self._io.fetch(self._lane, self._census.body(window), token)
            _total(page)
            step = walk.take(page)
            yield page
            if step is Step.NEXT:
                token = page.next_token

    async def _measure(self, window: Window) -> _Part:
        try:
            counted = await self.count(window)
        except SliceTooBigError:
            if window.seconds == 1:
                raise
            counted = None
        return _Part(window, counted, await self.books.count(window))

    async def _halve(self, part: _Part) -> list[_Part]:
        """Both halves; the second one's count follows from the first one's, and is checked at the end."""
        window = part.window
        cuts = await self.books.cuts(window, rows=max(1, part.stored // 2))
        middle = next((cut for cut in cuts if window.since < cut < window.until), None)
        if middle is None:
            middle = window.cut(2)[0].until
        first = await self._measure(Window(window.since, middle))
        rest = Window(middle, window.until)
        if part.api is None or first.api is None or first.api > part.api:
            return [first, await self._measure(rest)]
        return [first, _Part(rest, part.api - first.api, await self.books.count(rest))]

    async def _compare_ids(self, window: Window) -> list[Difference]:
        """Every id of a short stretch. Where rows are counted and not shown, down to their second."""
        listing = await self.show(window)
        hidden = listing.total - listing.seen
        if hidden < 0:
            raise CountsContradictError(
                f"TikTok Shop counts {listing.total} and shows {listing.seen} in {window}"
            )
        if hidden and window.seconds > 1:
            return await self._find_hidden(window, listing.total)
        stored = await self.books.ids(window)
        missing = {key: record for key, record in listing.shown.items() if key not in stored}
        extra = stored - listing.shown.keys()
        if hidden >= len(extra):
            # Counted though not shown, and stored: nothing is wrong with the copy.
            hidden, extra = hidden - len(extra), set()
        difference = Difference(
            window,
            listing.total,
            len(stored),
            fetched_at=listing.fetched_at,
            missing=missing,
            extra=frozenset(extra),
            hidden=hidden,
            unnamed=listing.seen - len(listing.shown),
        )
        return [difference] if missing or extra or hidden or difference.unnamed else []

    async def _find_hidden(self, window: Window, total: int) -> list[Difference]:
        halves = window.cut(2)
        counts = [await self.count(half) for half in halves]
        if sum(counts) != total:
            raise CountsContradictError(
                f"TikTok Shop counts {total} in {window}, and {counts[0]} and {counts[1]} in its halves"
            )
        return [difference for half in halves for difference in await self._compare_ids(half)]

    async def _count_again(self, window: Window, before: int, found: list[Difference]) -> None:
        """What was found does not explain the counts: either one side has changed, or they are wrong."""
        again, stored = await self.count(window), await self.books.count(window)
        explained = sum(difference.rows for difference in found)
        if again - stored != explained:
            raise CountsContradictError(
                f"TikTok Shop counts {again} in {window}, and {stored + explained} in its parts"
            )
        self.counted += again - before


def _total(page: Page) -> int:
    if page.total is None:
        raise UncountedError("TikTok Shop's answer has no total_count")
    return page.total
