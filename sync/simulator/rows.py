"""Records with live indexes by time, as a search reads them: newest state, and what is visible yet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sortedcontainers import SortedList

Key = tuple[int, int]
TimeField = Literal["update_time", "create_time"]


@dataclass(frozen=True, slots=True)
class Row:
    """One version of a record: its encoded body and the few fields that searches look at."""

    id: int
    body: bytes
    status: str
    create_time: int
    update_time: int
    warehouse_id: str = ""
    shipping_type: str = ""
    buyer_id: str = ""
    wants_cancel: bool = False


class RowIndex:
    """Rows by id and by time; a row may become visible later than it changes.

    ``newest`` is the truth, ``shown`` what searches may answer. They differ only while a change
    waits for the visibility lag it was put with.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.newest: dict[int, Row] = {row.id: row for row in rows}
        self.shown: dict[int, Row] = dict(self.newest)
        self._by_update: SortedList = SortedList((row.update_time, row.id) for row in self.shown.values())
        self._by_create: SortedList = SortedList((row.create_time, row.id) for row in self.shown.values())
        self._waiting: deque[tuple[float, Row]] = deque()
        self._waits: Counter[int] = Counter()
        self.shown_by_status: Counter[str] = Counter(row.status for row in self.shown.values())

    def put(self, row: Row, *, visible_at: float = 0.0, now: float = 0.0) -> None:
        """The row is the newest one; it is visible at once, or from ``visible_at`` on."""
        self.newest[row.id] = row
        if visible_at > now:
            self._waiting.append((visible_at, row))
            self._waits[row.id] += 1
            return
        while self._waits[row.id]:
            self._publish_first()
        self._show(row)

    def amend(self, row: Row) -> None:
        """The body of the newest row is replaced without a new time; not before an earlier change shows."""
        self.newest[row.id] = row
        if not self._waits[row.id]:
            self._show(row)

    def withdraw(self, row_id: int) -> Row:
        """The row is gone, and no search says a word of it. None of its changes may be waiting."""
        row = self.newest.pop(row_id)
        del self.shown[row_id]
        self._by_create.remove((row.create_time, row_id))
        self._by_update.remove((row.update_time, row_id))
        self.shown_by_status[row.status] -= 1
        return row

    def settle(self, now: float) -> None:
        """Every change whose time has come is visible."""
        while self._waiting and self._waiting[0][0] <= now:
            self._publish_first()

    def ordered(self, field: TimeField) -> SortedList:
        """The visible rows' (time, id) pairs, ascending, live."""
        return self._by_update if field == "update_time" else self._by_create

    def bodies(self) -> Iterator[bytes]:
        """The newest body of every row, ordered by id."""
        return (self.newest[row_id].body for row_id in sorted(self.newest))

    def _publish_first(self) -> None:
        _, row = self._waiting.popleft()
        self._waits[row.id] -= 1
        if not self._waits[row.id]:
            del self._waits[row.id]
            row = self.newest[row.id]
        self._show(row)

    def _show(self, row: Row) -> None:
        old = self.shown.get(row.id)
        self.shown[row.id] = row
        if old is None:
            self._by_create.add((row.create_time, row.id))
            self._by_update.add((row.update_time, row.id))
            self.shown_by_status[row.status] += 1
            return
        if old.update_time != row.update_time:
            self._by_update.remove((old.update_time, old.id))
            self._by_update.add((row.update_time, row.id))
        if old.status != row.status:
            self.shown_by_status[old.status] -= 1
            self.shown_by_status[row.status] += 1
