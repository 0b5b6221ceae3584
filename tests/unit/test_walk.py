"""The verdict on a walk: pages in, and never "complete" where a row may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.engine.walk import Step, Walk
from sync.model import Page, Record

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Fetch = Callable[[str | None], Page]


def page(keys: Iterable[object], token: str | None = None, total: int | None = None) -> Page:
    records = tuple(Record(key=str(key), raw=b"{}") for key in keys)
    return Page(records=records, next_token=token, total=total, fetched_at=NOW)


def run(fetch: Fetch, *, most_requests: int = 6_000) -> Walk:
    """A walk to its end, asked for as the engine asks."""
    walk = Walk()
    token: str | None = None
    for _ in range(most_requests):
        answer = fetch(token)
        step = walk.take(answer)
        if step is Step.END:
            return walk
        if step is Step.NEXT:
            token = answer.next_token
    pytest.fail("the walk goes on for ever")


def follow(*pages: Page) -> Walk:
    """A walk through these very pages, which must be exactly as many as it asks for."""
    rest = iter(pages)
    walk = run(lambda _: next(rest))
    assert next(rest, None) is None
    return walk


class Offsets:
    """A window whose tokens are offsets into what is there at the time; ``leaves`` rows before a page."""

    def __init__(self, rows: Iterable[int], *, size: int, leaves: Iterable[Iterable[int]] = ()) -> None:
        self.rows = list(rows)
        self.size = size
        self._leaves = iter(leaves)

    def __call__(self, token: str | None) -> Page:
        for row in next(self._leaves, ()):
            if row in self.rows:
                self.rows.remove(row)
        start = int(token or 0)
        end = start + self.size
        more = str(end) if end < len(self.rows) else None
        return page(self.rows[start:end], more, len(self.rows))


@settings(max_examples=500)
@given(
    rows=st.integers(0, 14),
    size=st.integers(1, 5),
    leaves=st.lists(st.lists(st.integers(0, 13), max_size=3), max_size=12),
)
def test_a_walk_that_is_closed_has_missed_no_row_that_stayed(
    rows: int, size: int, leaves: list[list[int]]
) -> None:
    window = Offsets(range(rows), size=size, leaves=leaves)
    previous = None
    for _ in range(10):
        walk = run(window)
        if walk.judge(previous) is not None:
            assert {str(row) for row in window.rows} <= walk.seen
            return
        previous = walk
    pytest.fail("a window that has come to rest was never closed")


@settings(max_examples=300)
@given(
    pages=st.lists(
        st.builds(
            page,
            st.lists(st.integers(0, 5), max_size=3),
            st.sampled_from([None, "a", "b", "c", "d"]),
            st.none() | st.integers(0, 6),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_walk_ends_whatever_the_pages_are(pages: list[Page]) -> None:
    asked = 0

    def fetch(token: str | None) -> Page:
        nonlocal asked
        asked += 1
        return pages[asked % len(pages)]

    run(fetch, most_requests=100)


@pytest.mark.parametrize("total", [0, 1, 50, 4_000])
def test_pages_with_ever_new_tokens_and_rows_end_by_the_count(total: int) -> None:
    numbers = iter(range(10**6))
    walk = run(lambda _: page([next(numbers)], f"t{next(numbers)}", total))
    assert walk.pages <= total + 50


@pytest.mark.parametrize("total", [0, 3, None])
def test_an_endless_tail_of_empty_pages_ends(total: int | None) -> None:
    first = page("abc", "1", total)
    numbers = iter(range(2, 10**6))
    walk = run(lambda token: first if token is None else page("", str(next(numbers)), total))
    assert walk.seen == {"a", "b", "c"}
    assert walk.pages < 60


def test_one_page_with_its_count_is_complete() -> None:
    assert follow(page("ab", None, 2)).judge(None) == "clean"


def test_an_empty_window_is_complete_at_once() -> None:
    assert follow(page("", None, 0)).judge(None) == "clean"


def test_rows_that_come_twice_count_once() -> None:
    assert follow(page("ab", "1", 3), page("bc", None, 3)).judge(None) == "clean"
    assert follow(page("ab", "1", 4), page("bc", None, 4)).judge(None) is None


def test_a_count_that_moved_proves_nothing() -> None:
    assert follow(page("ab", "1", 4), page("d", None, 3)).judge(None) is None


def test_a_page_that_is_empty_by_mistake_is_asked_for_again() -> None:
    walk = follow(page("ab", "1", 4), page("", "2", 4), page("cd", None, 4))
    assert walk.judge(None) == "clean"


def test_a_wrong_count_is_accepted_when_two_walks_saw_the_very_same() -> None:
    walks = [follow(page("ab", "1", 9), page("c", None, 9)) for _ in range(2)]
    assert walks[0].judge(None) is None
    assert walks[1].judge(walks[0]) == "stable"


@pytest.mark.parametrize(
    "second",
    [
        [page("ab", "1", 9), page("d", None, 9)],
        [page("ab", "1", 9), page("", None, 9)],
        [page("ab", "1", 8), page("c", None, 8)],
        [page("ab", "1", 9), page("c", None, 8)],
    ],
    ids=["other rows", "fewer rows", "other count", "moving count"],
)
def test_walks_that_differ_prove_nothing_about_a_wrong_count(second: list[Page]) -> None:
    first = follow(page("ab", "1", 9), page("c", None, 9))
    assert follow(*second).judge(first) is None


def test_without_a_count_one_whole_page_is_everything() -> None:
    assert follow(page("ab")).judge(None) == "exhausted"


def test_without_a_count_a_further_walk_must_see_nothing_new() -> None:
    first = follow(page("ab", "1"), page("c"))
    assert first.judge(None) is None
    assert follow(page("ab", "1"), page("cd")).judge(first) is None
    assert follow(page("ab", "1"), page("c")).judge(first) == "exhausted"


def test_a_repeated_token_ends_the_walk() -> None:
    walk = follow(page("ab", "1", 6), page("cd", "1", 6))
    assert walk.seen == set("abcd")


def cut_short_by_a_repeated_token(total: int | None) -> Walk:
    return follow(page("ab", "1", total), page("cd", "1", total))


def cut_short_by_rows_without_end() -> Walk:
    """An API that counts three rows and shows ever more."""
    numbers = iter(range(10**6))
    return run(lambda _: page([next(numbers)], f"t{next(numbers)}", 3))


def cut_short_by_empty_pages() -> Walk:
    """An API that counts rows and shows page after empty page."""
    numbers = iter(range(10**6))
    return run(lambda _: page("", f"t{next(numbers)}", 300))


@pytest.mark.parametrize(
    "walk",
    [
        lambda: cut_short_by_a_repeated_token(6),
        lambda: cut_short_by_a_repeated_token(None),
        cut_short_by_rows_without_end,
        cut_short_by_empty_pages,
    ],
    ids=["repeated token", "repeated token without a count", "rows without end", "empty pages"],
)
def test_walks_that_did_not_reach_the_end_prove_nothing_however_often_they_agree(
    walk: Callable[[], Walk],
) -> None:
    first, second = walk(), walk()
    assert second.seen == first.seen
    assert second.judge(first) is None


@pytest.mark.parametrize("size", [1, 20])
def test_pages_may_be_smaller_than_asked(size: int) -> None:
    assert run(Offsets(range(900), size=size)).judge(None) == "clean"


def test_a_repeated_token_after_the_last_row_is_complete_by_the_count() -> None:
    assert cut_short_by_a_repeated_token(4).judge(None) == "clean"


def test_records_without_an_id_are_told_apart_by_their_content() -> None:
    records = tuple(Record(key=None, raw=raw) for raw in (b'{"a":1}', b'{"a":2}'))
    walk = Walk()
    assert walk.take(Page(records=records, next_token=None, total=2, fetched_at=NOW)) is Step.END
    assert walk.judge(None) == "clean"
