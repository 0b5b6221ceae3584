"""What is asked of the engine, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sync.model import Tally

# The reason of the daemon's rounds. Like a visit, one that finds nothing new leaves no row and no line in
# the log.
DUE = "due"
# The reason of a visit: only what notifications hint at, or has its turn to be read again, is read.
NOTIFICATION = "notification"
QUIET = frozenset({DUE, NOTIFICATION})

Outcome = Literal["complete", "incomplete", "failed", "busy", "stopped"]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A wish to sync one shop. A tick, a notification, a command and an onboarding all make the same.

    Without ``since`` from the beginning of history; without ``until`` up to now, and what becomes
    due while history is still being read is read first. ``passes`` is how often a stream with
    failed slices is planned again before the run gives up. One without streams is a visit.
    """

    shop_id: str
    streams: tuple[str, ...]
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    passes: int = 1

    @property
    def is_visit(self) -> bool:
        """True when nothing is read but what hints name. It gives way to any other wish."""
        return not self.streams


@dataclass(slots=True)
class StreamProgress:
    """How far a stream of a run is. ``expected`` grows as TikTok's counts come in."""

    expected: int = 0
    done: int = 0
    tally: Tally = field(default_factory=Tally)
    finished: bool = False


@dataclass(slots=True)
class RunReport:
    """What became of a request; alive while it runs. ``problems`` say what is missing and why."""

    shop_id: str
    name: str = ""
    streams: dict[str, StreamProgress] = field(default_factory=dict)
    outcome: Outcome = "complete"
    problems: list[str] = field(default_factory=list)

    def crash(self, error: Exception) -> None:
        """A fault of ours ended the run; said once."""
        self.outcome = "failed"
        problem = f"a fault in shopsync itself ({type(error).__name__}); the log has more"
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def tally(self) -> Tally:
        total = Tally()
        for progress in self.streams.values():
            total.add(progress.tally)
        return total
