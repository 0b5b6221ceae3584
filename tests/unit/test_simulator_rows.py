"""Live indexes: what is newest, what can be seen, and when."""

from __future__ import annotations

from sync.simulator.rows import Row, RowIndex
from sync.simulator.searches import Filter, select


def _row(row_id: int, update_time: int, text: bytes = b"", status: str = "LIVE") -> Row:
    return Row(row_id, text, status, create_time=1, update_time=update_time)


def _ids(index: RowIndex, **wanted: object) -> list[int]:
    found = select(index, Filter(sort="update_time", descending=False, **wanted))  # type: ignore[arg-type]  # free filters
    return [row_id for _, row_id in found.keys(0, found.total)]


def test_a_changed_row_moves_to_its_new_place() -> None:
    index = RowIndex([_row(1, 10), _row(2, 20)])
    index.put(_row(1, 30))
    assert _ids(index) == [2, 1]
    assert index.newest == index.shown


def test_a_change_with_a_lag_leaves_the_old_version_in_sight_until_its_time() -> None:
    index = RowIndex([_row(1, 10, b"old")])
    index.put(_row(1, 30, b"new"), visible_at=35, now=30)
    index.settle(34.9)
    assert (index.newest[1].body, index.shown[1].body) == (b"new", b"old")
    assert _ids(index, update=(0, 11)) == [1]
    index.settle(35)
    assert index.shown[1].body == b"new"
    assert _ids(index, update=(0, 11)) == []


def test_two_waiting_changes_show_the_newest_at_last_and_no_row_twice() -> None:
    index = RowIndex([_row(1, 10, b"a")])
    index.put(_row(1, 30, b"b"), visible_at=35, now=30)
    index.put(_row(1, 32, b"c"), visible_at=37, now=32)
    index.settle(36)
    assert index.shown[1].body == b"b"
    index.settle(40)
    assert index.shown[1].body == b"c"
    assert _ids(index) == [1]


def test_a_change_at_once_overtakes_those_that_wait() -> None:
    index = RowIndex([_row(1, 10, b"a")])
    index.put(_row(1, 30, b"b"), visible_at=99, now=30)
    index.put(_row(1, 31, b"c"))
    assert index.shown[1].body == b"c"
    index.settle(1_000)
    assert index.shown[1].body == b"c"


def test_amending_a_body_moves_nothing_and_waits_behind_an_earlier_change() -> None:
    index = RowIndex([_row(1, 10, b"a"), _row(2, 20, b"x")])
    index.amend(_row(2, 20, b"y"))
    assert index.shown[2].body == b"y"
    index.put(_row(1, 30, b"b"), visible_at=35, now=30)
    index.amend(_row(1, 30, b"b2"))
    assert index.shown[1].body == b"a"
    index.settle(35)
    assert index.shown[1].body == b"b2"


def test_statuses_are_counted_as_they_are_seen() -> None:
    index = RowIndex([_row(1, 10)])
    index.put(_row(1, 30, status="DELETED"), visible_at=35, now=30)
    assert index.shown_by_status["DELETED"] == 0
    index.settle(35)
    assert (index.shown_by_status["LIVE"], index.shown_by_status["DELETED"]) == (0, 1)


def test_equal_times_are_ordered_by_id_and_never_lost_at_an_edge() -> None:
    index = RowIndex([_row(row_id, 10 + row_id // 5) for row_id in range(20)])
    assert _ids(index, update=(11, 13)) == list(range(5, 15))
    found = select(index, Filter(sort="update_time", descending=True, update=(11, 13)))
    assert [row_id for _, row_id in found.keys(3, 4)] == [11, 10, 9, 8]
    assert found.rank_after((11, 9)) == 6
