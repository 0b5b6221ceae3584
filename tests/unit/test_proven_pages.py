"""What pages in the order of update time prove: never more than was shown, and as much as that."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.engine.walk import Step, Walk
from sync.model import Page, Record, Window

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIZE = 3


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def page(rows: Iterable[tuple[int, int]], token: str | None, total: int | None) -> Page:
    """A page of rows given as (update time, id)."""
    records = tuple(Record(key=str(key), raw=b"{}", time=second) for second, key in rows)
    return Page(records=records, next_token=token, total=total, fetched_at=NOW)


def walk_through(*pages: Page, until: int = 1000) -> Walk:
    walk = Walk(Window(at(0), at(until)), page_size=SIZE)
    for one in pages:
        walk.take(one)
    return walk


class Moving:
    """Rows in the order of (time, id), paged by offset; before each page some leave."""

    def __init__(self, rows: Iterable[tuple[int, int]], leaves: Iterable[Iterable[int]]) -> None:
        self.rows = sorted(rows)
        self._leaves = iter(leaves)

    def fetch(self, since: int, offset: int) -> Page:
        gone = set(next(self._leaves, ()))
        self.rows = [row for row in self.rows if row[1] not in gone]
        inside = [row for row in self.rows if row[0] >= since]
        shown = inside[offset : offset + SIZE]
        token = str(offset + SIZE) if offset + SIZE < len(inside) else None
        return page(shown, token, len(inside))


@settings(max_examples=1000)
@given(
    seconds=st.lists(st.integers(0, 9), max_size=24),
    leaves=st.lists(st.lists(st.integers(0, 23), max_size=2), max_size=20),
)
def test_no_row_that_stayed_is_missing_before_what_is_proven(
    seconds: list[int], leaves: list[list[int]]
) -> None:
    window = Moving([(second, key) for key, second in enumerate(seconds)], leaves)
    walk = Walk(Window(at(0), at(1000)), page_size=SIZE)
    offset = 0
    for _ in range(40):
        answer = window.fetch(0, offset)
        step = walk.take(answer)
        if walk.proven is not None:
            stayed = {str(key) for second, key in window.rows if at(second) < walk.proven}
            assert stayed <= walk.seen
            assert walk.proven_rows == walk.rows_before(walk.proven)
        if step is Step.END:
            return
        offset += SIZE if step is Step.NEXT else 0
    pytest.fail("the walk goes on for ever")


@settings(max_examples=300)
@given(
    seconds=st.lists(st.integers(0, 9), max_size=24),
    leaves=st.lists(st.lists(st.integers(0, 23), max_size=2), max_size=12),
)
def test_going_on_from_what_is_proven_reads_every_row_that_stays(
    seconds: list[int], leaves: list[list[int]]
) -> None:
    window = Moving([(second, key) for key, second in enumerate(seconds)], leaves)
    since, seen = 0, set[str]()
    for _ in range(60):
        walk = Walk(Window(at(since), at(1000)), page_size=SIZE)
        offset, step = 0, Step.NEXT
        while step is not Step.END:
            step = walk.take(window.fetch(since, offset))
            offset += SIZE if step is Step.NEXT else 0
        seen |= walk.seen
        if walk.judge(None) is not None:
            assert {str(key) for _, key in window.rows} <= seen
            return
        if walk.proven is not None:
            since = int(walk.proven.timestamp())
    pytest.fail("a window that has come to rest was never closed")


def test_a_full_first_page_proves_everything_before_its_last_second() -> None:
    walk = walk_through(page([(1, 1), (2, 2), (5, 3)], "t", 9))
    assert (walk.proven, walk.proven_rows) == (at(5), 2)


def test_rows_of_the_last_second_are_not_proven_for_more_may_follow() -> None:
    walk = walk_through(page([(1, 1), (5, 2), (5, 3)], "a", 9), page([(5, 4), (5, 5), (5, 6)], "b", 9))
    assert (walk.proven, walk.proven_rows) == (at(5), 1)


def test_a_page_within_the_first_second_proves_nothing() -> None:
    walk = walk_through(page([(0, 1), (0, 2), (0, 3)], "t", 9))
    assert (walk.proven, walk.proven_rows, walk.rows_in_order) == (None, 0, 3)


def test_a_disturbed_walk_ends_at_once_and_keeps_what_was_proven_before() -> None:
    walk = Walk(Window(at(0), at(1000)), page_size=SIZE)
    assert walk.take(page([(1, 1), (2, 2), (5, 3)], "a", 9)) is Step.NEXT
    assert walk.take(page([(6, 4), (7, 5), (8, 6)], "b", 8)) is Step.END
    assert walk.proven == at(5)
    assert walk.judge(None) is None


def test_a_disturbed_walk_that_ends_is_no_proof_even_without_counts() -> None:
    known = walk_through(page([(1, 1), (2, 2), (5, 3)], None, None))
    walk = walk_through(page([(1, 1), (2, 2), (5, 3)], "a", 3), page([], "b", None))
    assert walk.judge(known) is None


FULL = page([(1, 1), (2, 2), (5, 3)], "a", 9)


@pytest.mark.parametrize(
    "doubtful",
    [
        page([(6, 4), (7, 5)], "b", 9),
        page([(6, 4), (4, 5), (8, 6)], "b", 9),
        page([(4, 4), (7, 5), (8, 6)], "b", 9),
        page([(6, 3), (7, 5), (8, 6)], "b", 9),
        page([(6, 4), (7, 5), (1000, 6)], "b", 9),
        page([(6, 4), (7, 5), (8, 6)], "b", 10),
        page([(6, 4), (7, 5), (8, 6)], "b", None),
    ],
    ids=["short", "out of order", "older than before", "seen before", "outside", "other count", "no count"],
)
def test_a_page_in_doubt_proves_nothing_and_neither_does_any_after_it(doubtful: Page) -> None:
    walk = walk_through(FULL, doubtful, page([(20, 7), (21, 8), (22, 9)], "c", 9))
    assert walk.proven == at(5)


def test_a_record_without_a_time_proves_nothing() -> None:
    records = (*FULL.records[:2], Record(key="3", raw=b"{}"))
    walk = walk_through(Page(records=records, next_token="t", total=9, fetched_at=NOW))
    assert walk.proven is None
