"""Rows: of an answer, and of the tables of the schema sync."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.simulation.ranges import Ranges, add

LEAST = float("-inf")


class Row:
    """One row of an answer, read by name, by place, or as a whole: as asyncpg's records are."""

    __slots__ = ("_values",)

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getitem__(self, key: str | int) -> Any:
        return list(self._values.values())[key] if isinstance(key, int) else self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values.values())

    def keys(self) -> Any:
        return self._values.keys()

    def __repr__(self) -> str:
        return repr(self._values)


@dataclass(slots=True)
class LeaseRow:
    """Times here and below are seconds by the server's clock."""

    owner: Any
    epoch: int
    expires_at: float
    session: Any
    taken_at: float
    learned_rate: float | None = None
    wanted_at: float = LEAST


@dataclass(slots=True)
class CursorRow:
    due_at: float
    covered: Ranges = ()
    settled: Ranges = ()
    synced_until: datetime | None = None
    attempted_at: float | None = None
    succeeded_at: float | None = None
    failures: int = 0
    last_error: str | None = None
    parked_reason: str | None = None


@dataclass(slots=True)
class HintRow:
    heard_at: datetime
    due_at: float
    source: str
    changed_at: datetime | None
    version: int = 1
    tries: int = 0


def note_success(cursor: CursorRow, now: float, due_in_s: float) -> None:
    cursor.succeeded_at, cursor.due_at = now, now + due_in_s
    cursor.failures, cursor.last_error, cursor.parked_reason = 0, None, None


def close(cursor: CursorRow, since: datetime, until: datetime, settled_until: datetime) -> None:
    """The window is covered, and settled as far as late rows cannot show up any more."""
    cursor.covered = add(cursor.covered, since, until)
    cursor.settled = add(cursor.settled, since, min(until, settled_until))
    cursor.synced_until = cursor.covered[-1][1]
