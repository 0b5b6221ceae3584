"""The product with one rule taken out at a time, and the kind of run in which that must show.

Rules of the engine are taken out of the engine itself. Where a rule lives in SQL it is taken out of the
statement's stand-in here; ``sql_twin`` names the tests of the same rule in Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from sync.clock import ApiClock
from sync.engine import fleet, plan, shop_sync, window_sync
from sync.engine.lookups import Lookups
from sync.engine.slice_io import Account
from sync.engine.walk import Step, Walk
from sync.engine.window_sync import WindowSync
from sync.model import Page, Tally, Window, whole_second
from sync.store.leases import Lease
from sync.store.ledger import Closing
from sync.store.page_writer import Target
from sync.store.sink import Sink
from sync.tiktok.limiter import Pacer
from sync.tiktok.turn import Turn
from tests.simulation.books import Books
from tests.simulation.notes import Notes
from tests.simulation.postgres import Server, Transaction
from tests.simulation.rows import Row
from tests.simulation.tables import Tables

Patch = pytest.MonkeyPatch
_CALM: dict[str, Any] = {
    "hours": 0.5, "shops": 2, "workers": 2, "changes": 0.0, "move": 0.0, "notices": 0.0, "lag_s": 0.0,
    "refused": 0.0, "broken": 0.0, "silent": 0.0, "slow": 0.0, "lost_token": 0.0, "repeated_token": 0.0,
    "empty_page": 0.0, "twice": 0.0, "stray_date": 0.0, "kills": 0.0, "stops": 0.0, "terms": 0.0,
    "jumps": 0.0, "cut": 0.0, "cut_at_commit": 0.0, "restarts": 0.0, "counts": "right",
    "requests_limit": 50, "products": 5,
    "intervals_s": {"orders": 120.0, "products": 600.0, "inventory": 600.0, "warehouses": 3600.0},
    "parallel_shops": 4, "turn_s": 1e-6, "database_s": 0.0005, "answer_s": 0.2,
}  # fmt: skip
_PAGED: dict[str, Any] = {
    "orders": 150, "page_size": 5, "leaf_rows": 500, "worth_splitting": 500, "history_s": 3600,
    "parallel_slices": 1, "paging": "offset",
}  # fmt: skip
_MOVING = {**_CALM, **_PAGED, "move": 0.6, "burst": 3, "changes": 120.0}
# As many requests as the pacer lets through, and a good many processes that come and go.
_RUSH: dict[str, Any] = {
    **_CALM, **_PAGED, "shops": 1, "hours": 0.2, "orders": 1500, "parallel_slices": 16, "leaf_rows": 20,
    "history_s": 86_400, "answer_s": 0.05,
}  # fmt: skip
_SLOW: dict[str, Any] = {
    **_CALM, **_PAGED, "shops": 1, "hours": 0.25, "orders": 600, "answer_s": 0.6, "parallel_slices": 3,
    "leaf_rows": 50, "workers": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """``take_out`` breaks the rule; the runs are those of the seeds, with what is ``fixed``."""

    name: str
    take_out: Callable[[Patch], None]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sql_twin: str = ""
    seed: int = 1  # The first that is tried.

    def __str__(self) -> str:
        return self.name


def _believe_every_walk(patch: Patch) -> None:
    take = Walk.take

    def take_unmoved(self: Walk, page: Page) -> Step:
        return take(self, replace(page, total=self.first_total) if self.pages else page)

    patch.setattr(Walk, "take", take_unmoved)
    patch.setattr(Walk, "judge", lambda self, previous: "clean")


def _look_back_at_nothing(patch: Patch) -> None:
    def settled_until(walk_started: datetime, *, lookback_s: float) -> datetime:
        return whole_second(walk_started)

    patch.setattr(plan, "settled_until", settled_until)


def _settle_an_open_end(patch: Patch) -> None:
    settle = WindowSync._settle

    def settle_all(self: WindowSync, account: Account, walk: Walk, window: Window, **hides: bool) -> None:
        settle(self, account, walk, window, **hides)
        account.settled_until = walk.started_at

    patch.setattr(WindowSync, "_settle", settle_all)
    patch.setattr(window_sync, "_WORTH_CLOSING", timedelta(days=36_500))


def _advance_too_far(patch: Patch) -> None:
    advance = WindowSync._advance

    def advance_more(self: WindowSync, reading: Any, walked: Window, account: Account) -> bool:
        if not advance(self, reading, walked, account):
            return False
        reading.since = min(reading.since + timedelta(seconds=30), reading.until)
        return True

    patch.setattr(WindowSync, "_advance", advance_more)


def _cover_before_storing(patch: Patch) -> None:
    write = Sink.write

    async def write_twice(
        self: Sink,
        target: Target,
        page: Page | None,
        *,
        lease: Lease,
        closing: Closing | None = None,
        **urgency: Any,
    ) -> Tally:
        if closing is not None and page is not None and page.records:
            await write(self, target, None, lease=lease, closing=closing)
            closing = None
        return await write(self, target, page, lease=lease, closing=closing, **urgency)

    patch.setattr(Sink, "write", write_twice)


def _take_any_end_for_the_end(patch: Patch) -> None:
    never = property(lambda self: False, lambda self, value: None)
    patch.setattr(Walk, "_is_cut_short", never, raising=False)


def _follow_any_token(patch: Patch) -> None:
    class Forgetful(set[str]):
        def add(self, _token: str) -> None:
            pass

    init = Walk.__init__

    def init_forgetful(self: Walk, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._tokens = Forgetful()

    patch.setattr(Walk, "__init__", init_forgetful)
    patch.setattr(Walk, "_is_long_enough", lambda self: False)


def _believe_the_local_clock(patch: Patch) -> None:
    def learn(self: ApiClock, *_: Any, **__: Any) -> None:
        self.is_known = True

    patch.setattr(ApiClock, "learn", learn)


def _let_fifty_go_at_once(patch: Patch) -> None:
    async def acquire(self: Any, lane: str = "", *, urgent: bool = False) -> None:
        if not hasattr(self, "plain"):
            self.plain = AsyncLimiter(50, 1)
        await self.plain.acquire()

    patch.setattr(Pacer, "acquire", acquire)


def _repeat_without_a_pace(patch: Patch) -> None:
    init = Turn.__init__
    calls: list[Any] = []

    def init_unpaced(self: Turn, pacer: Any, *args: Any, sign: Any = None, **kwargs: Any) -> None:
        call = sign.args[0]
        init(self, None if any(call is c for c in calls) else pacer, *args, sign=sign, **kwargs)
        calls[:] = [*calls[-200:], call]

    patch.setattr(Turn, "__init__", init_unpaced)


def _begin_at_once(patch: Patch) -> None:
    patch.setattr(fleet, "_AFTER_TAKEOVER_S", 0.0)


def _ask_without_a_lease(patch: Patch) -> None:
    patch.setattr(Lease, "check", lambda self: None)


def _settle_unread_hints(patch: Patch) -> None:
    async def read(self: Lookups, hints: Any) -> Any:
        return list(hints), []

    patch.setattr(Lookups, "read", read)


def _be_due_much_later(patch: Patch) -> None:
    patch.setattr(shop_sync, "due_in_s", lambda shop_id, interval_s, *, now: 1e6)


def _take_any_version(patch: Patch) -> None:
    judge = Tables.judge

    def judge_all_new(row: Any, stored: Any, *, is_rejected: bool) -> str:
        verdict = judge(row, stored, is_rejected=is_rejected)
        return "updated" if verdict == "stale" else verdict

    patch.setattr(Tables, "judge", staticmethod(judge_all_new))


def _fence_nobody(patch: Patch) -> None:
    def hold_lease(self: Books, _server: Server, t: Transaction, *claim: Any) -> list[Row]:
        t.claims.append(claim)
        return [Row(held=1)]

    patch.setattr(Books, "hold_lease", hold_lease)
    patch.setattr(Books, "holds", lambda self, *_: True)


def _take_what_is_locked(patch: Patch) -> None:
    patch.setattr(Server, "is_locked", lambda self, key: False)


def _take_what_is_held(patch: Patch) -> None:
    patch.setattr(Books, "_is_free", lambda self, *_: True)


def _settle_what_came_again(patch: Patch) -> None:
    settle = Notes.settle_hints

    def settle_any(
        self: Notes, server: Server, t: Transaction, shop_id: str, streams: Any, keys: Any, _versions: Any
    ) -> list[Row]:
        known = [self._books.hints.get((shop_id, s, k)) for s, k in zip(streams, keys, strict=True)]
        return settle(self, server, t, shop_id, streams, keys, [h.version if h else 0 for h in known])

    patch.setattr(Notes, "settle_hints", settle_any)


MUTANTS = (
    Mutant("the clean walk", _believe_every_walk, _MOVING),
    Mutant("the lookback", _look_back_at_nothing, {**_CALM, **_PAGED, "changes": 120.0, "lag_s": 250.0}),
    Mutant("the open end", _settle_an_open_end, {**_MOVING, "lag_s": 40.0}),
    Mutant("the proven second", _advance_too_far, _MOVING),
    Mutant(
        "storing and covering at once",
        _cover_before_storing,
        {**_CALM, **_PAGED, "kills": 30.0, "changes": 60.0},
    ),
    Mutant(
        "the end that TikTok names",
        _take_any_end_for_the_end,
        {**_CALM, **_PAGED, "counts": "absent", "repeated_token": 1.0},
    ),
    Mutant(
        "the end of a loop",
        _follow_any_token,
        {**_CALM, **_PAGED, "repeated_token": 1.0, "hours": 0.5, "shops": 1, "answer_s": 0.6, "orders": 20},
    ),
    Mutant("TikTok's clock", _believe_the_local_clock, {**_CALM, **_PAGED, "jumps": 4.0, "changes": 120.0}),
    Mutant("the pace", _let_fifty_go_at_once, _RUSH),
    Mutant("the pace of retries", _repeat_without_a_pace, {**_RUSH, "broken": 0.5}),
    Mutant(
        "the pause after a takeover",
        _begin_at_once,
        {**_RUSH, "kills": 900.0, "workers": 3, "orders": 3000},
        seed=17,
    ),
    Mutant(
        "a lease for every request",
        _ask_without_a_lease,
        {**_RUSH, "stops": 60.0, "workers": 3, "orders": 3000},
    ),
    Mutant(
        "hints that are read", _settle_unread_hints, {**_CALM, **_PAGED, "changes": 120.0, "notices": 1.0}
    ),
    Mutant("the next time", _be_due_much_later, {**_CALM, "hours": 1.0}),
    Mutant(
        "the newest wins",
        _take_any_version,
        {**_MOVING, "paging": "snapshot", "notices": 1.0, "slow": 0.3},
        "tests/integration/test_moving_mutants.py",
    ),
    Mutant("the fence", _fence_nobody, {**_SLOW, "stops": 300.0}, "tests/integration/test_leases.py"),
    Mutant(
        "the wait for a last page",
        _take_what_is_locked,
        {**_SLOW, "stops": 400.0, "database_s": 0.2, "orders": 900},
        "tests/integration/test_leases.py",
    ),
    Mutant("one at a time", _take_what_is_held, {**_RUSH, "workers": 3}, "tests/integration/test_leases.py"),
    Mutant(
        "hints that came again",
        _settle_what_came_again,
        {**_CALM, "orders": 20, "changes": 2400.0, "notices": 1.0, "answer_s": 0.6, "hours": 0.1},
        "tests/integration/test_store_hints.py",
    ),
)
