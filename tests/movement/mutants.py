"""The product with one rule taken out at a time, and the kind of run in which that must show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sync.engine import plan, window_sync
from sync.engine.reading import Reading
from sync.engine.slice_io import Account
from sync.engine.walk import Step, Walk
from sync.engine.window_sync import WindowSync
from sync.model import Page, Tally, Window, whole_second
from sync.store.leases import Lease
from sync.store.ledger import Closing
from sync.store.page_writer import Target
from sync.store.queries import load_queries
from sync.store.sink import Sink

Patch = pytest.MonkeyPatch
_CALM: dict[str, Any] = {
    "lag_s": 0.0, "kill_after": None, "faults": (), "rounds": 1, "crowd": 0.0, "fresh": 0.0,
}  # fmt: skip
_PAGED: dict[str, Any] = {
    "orders": 70, "products": 30, "page_size": 5, "leaf_rows": 500, "worth_splitting": 15,
}  # fmt: skip
_BUSY: dict[str, Any] = {"move": 0.5, "burst": 3, "reach": 2, "tick_s": 0.5, "paging": "offset"}
# As many rows show up late at the end of the window as leave it: the count stands still.
_LATE: dict[str, Any] = {"balances": True, "burst": 1, "tick_s": 0.2, "interval_s": 200}
_STILL: dict[str, Any] = {"move": 0.0, "paging": "keyset"}
# A long walk through a snapshot, and rows ahead of it that shorter walks read anew meanwhile.
_OVERTAKEN: dict[str, Any] = {
    "paging": "snapshot", "orders": 150, "worth_splitting": 1000, "reach": 15, "parallel": 3,
    "interval_s": 2, "tick_s": 2.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """``take_out`` breaks the rule; the scenarios are those of the seeds, with what is ``fixed``."""

    name: str
    take_out: Callable[[Patch], None]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _believe_every_walk(patch: Patch) -> None:
    take = Walk.take

    def take_unmoved(self: Walk, page: Page) -> Step:
        return take(self, replace(page, total=self.first_total) if self.pages else page)

    patch.setattr(Walk, "take", take_unmoved)
    patch.setattr(Walk, "judge", lambda self, previous: "clean")


def _believe_every_proof(patch: Patch) -> None:
    prove = Walk._prove

    def prove_unmoved(self: Walk, page: Page, *, new: int) -> None:
        prove(self, replace(page, total=self.first_total), new=new)

    patch.setattr(Walk, "_prove", prove_unmoved)


def _look_back_at_nothing(patch: Patch) -> None:
    def settled_until(walk_started: datetime, *, lookback_s: float) -> datetime:
        return whole_second(walk_started)

    patch.setattr(plan, "settled_until", settled_until)


def _settle_an_open_end(patch: Patch) -> None:
    settle = WindowSync._settle

    def settle_as_one_page(
        self: WindowSync, account: Account, walk: Walk, window: Window, *, hides: bool = False
    ) -> None:
        pages, walk.pages = walk.pages, 1
        settle(self, account, walk, window, hides=hides)
        walk.pages = pages

    patch.setattr(WindowSync, "_settle", settle_as_one_page)
    patch.setattr(window_sync, "_WORTH_CLOSING", timedelta(days=36_500))


def _take_any_version(patch: Patch) -> None:
    statements = load_queries()
    for name in ("store_orders", "store_products"):
        guarded = statements[name]
        open_to_all = guarded.replace("'stale'", "'newer'")
        assert open_to_all.count("'newer'") > guarded.count("'newer'"), (
            "the guard is written differently by now"
        )
        patch.setitem(statements, name, open_to_all)


def _cover_what_another_walk_took(patch: Patch) -> None:
    finish = WindowSync._finish

    async def finish_all(
        self: WindowSync, reading: Reading, page: Page | None, account: Account, verdict: str | None
    ) -> None:
        reading.until = reading.window.until
        await finish(self, reading, page, account, verdict)

    patch.setattr(WindowSync, "_finish", finish_all)


def _cover_before_storing(patch: Patch) -> None:
    write = Sink.write

    async def write_twice(
        self: Sink,
        target: Target,
        page: Page | None,
        *,
        lease: Lease,
        closing: Closing | None = None,
        **others: Any,
    ) -> Tally:
        if closing is not None:
            await write(self, target, None, lease=lease, closing=closing)
            # Two commits lie apart on a busy machine; so far that a kill at any request meets them.
            await asyncio.sleep(0.02)
        return await write(self, target, page, lease=lease, **others)

    patch.setattr(Sink, "write", write_twice)


def _advance_too_far(patch: Patch) -> None:
    advance = WindowSync._advance

    def advance_a_second_more(self: WindowSync, reading: Reading, walked: Window, account: Account) -> bool:
        if not advance(self, reading, walked, account):
            return False
        reading.since = min(reading.since + timedelta(seconds=1), reading.until)
        return True

    patch.setattr(WindowSync, "_advance", advance_a_second_more)


def _prove_by_short_pages(patch: Patch) -> None:
    prove = Walk._prove

    def prove_any(self: Walk, page: Page, *, new: int) -> None:
        self._page_size = max(1, len(page.records))
        prove(self, page, new=new)

    patch.setattr(Walk, "_prove", prove_any)


def _believe_every_claim(patch: Patch) -> None:
    async def believe(self: Reading, count: int | None) -> None:
        self.claim = self.heir = None

    patch.setattr(Reading, "bear_out", believe)


def _take_any_end_for_the_end(patch: Patch) -> None:
    patch.setattr(
        Walk, "_is_cut_short", property(lambda self: False, lambda self, value: None), raising=False
    )


_HIDDEN = {"fault": "hidden_row", "every": 3, "times": 3, "path": "/orders/search"}
_NO_COUNT = {"fault": "total_count_absent"}
_SAME_TOKEN = {"fault": "repeated_token", "times": 60}

MUTANTS = (
    Mutant("the clean walk", _believe_every_walk, {**_CALM, **_PAGED, **_BUSY, "parallel": 1}),
    Mutant("the doubt in a proof", _believe_every_proof, {**_CALM, **_PAGED, **_BUSY, "parallel": 1}),
    Mutant(
        "the lookback",
        _look_back_at_nothing,
        {**_CALM, **_PAGED, **_BUSY, "lag_s": 12.0, "rounds": 2, "paging": "keyset"},
    ),
    Mutant(
        "the open end",
        _settle_an_open_end,
        {**_CALM, **_PAGED, **_BUSY, **_LATE, "parallel": 1},
    ),
    Mutant(
        "the newest wins",
        _take_any_version,
        {**_CALM, **_PAGED, **_BUSY, **_OVERTAKEN},
    ),
    Mutant(
        "the end of a shared window",
        _cover_what_another_walk_took,
        {**_CALM, **_PAGED, **_STILL, "parallel": 8, "kill_after": 25},
    ),
    Mutant(
        "storing and covering at once",
        _cover_before_storing,
        {
            **_CALM,
            **_PAGED,
            "paging": "keyset",
            "move": 0.0,
            "parallel": 8,
            "kill_after": 22,
            "leaf_rows": 15,
        },
    ),
    Mutant(
        "the proven second",
        _advance_too_far,
        {**_CALM, **_PAGED, **_BUSY, "rush": 0.6, "parallel": 1},
    ),
    Mutant(
        "full pages",
        _prove_by_short_pages,
        {**_CALM, **_PAGED, **_BUSY, "parallel": 1, "faults": (_HIDDEN,)},
    ),
    Mutant(
        "the claim to what stands behind",
        _believe_every_claim,
        {**_CALM, **_PAGED, **_BUSY, "parallel": 1, "holds_counts": True},
    ),
    Mutant(
        "the end that TikTok names",
        _take_any_end_for_the_end,
        {**_CALM, **_PAGED, "move": 0.0, "parallel": 1, "faults": (_NO_COUNT, _SAME_TOKEN)},
    ),
)
