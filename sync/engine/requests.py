"""What is asked of the engine, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from sync.model import Tally, Window
from sync.store.proofs import Finding, Verdict

# The reason of the daemon's rounds. Like a visit, one that finds nothing new leaves no row and no line in
# the log.
DUE = "due"
# The reason of a visit: only what notifications hint at, or has its turn to be read again, is read.
NOTIFICATION = "notification"
# The reason of comparisons with TikTok Shop's counts; what they find has a table of its own.
VERIFY = "verify"
QUIET = frozenset({DUE, NOTIFICATION, VERIFY})

Outcome = Literal["complete", "incomplete", "failed", "busy", "stopped"]


@dataclass(frozen=True, slots=True)
class Verify:
    """A wish to have streams of a shop compared. In the background it gives way to any other wish.

    ``anew`` begins at the beginning even where an earlier comparison was cut short; ``due_in_s`` is when
    the next one is due. ``since`` and ``until`` are creation time.
    """

    streams: tuple[str, ...]
    repairs: bool = False
    anew: bool = True
    in_background: bool = False
    since: datetime | None = None
    until: datetime | None = None
    due_in_s: float = 86_400.0


@dataclass(slots=True)
class Proof:
    """What became of one stream's comparison; ``target`` is creation time, None where ids are compared.

    Without a verdict it did not come to its end, and ``reason`` says why.
    """

    stream: str
    target: Window | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    api_rows: int = 0
    stored_rows: int = 0
    requests: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def open_findings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_repaired]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A wish to sync one shop. A tick, a notification, a command and an onboarding all make the same.

    Without ``since`` from the beginning of history; without ``until`` up to now, and what becomes
    due while history is still being read is read first. ``passes`` is how often a stream with
    failed slices is planned again before the run gives up. One without streams is a visit, or a
    comparison with TikTok Shop's counts.
    """

    shop_id: str
    streams: tuple[str, ...]
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    passes: int = 1
    verify: Verify | None = None

    def of(self, shop_id: str) -> SyncRequest:
        """The same wish for another shop."""
        return replace(self, shop_id=shop_id)

    @property
    def is_visit(self) -> bool:
        """True when nothing is read but what hints name."""
        return not self.streams and self.verify is None

    @property
    def gives_way(self) -> bool:
        """True when any other wish comes first."""
        return self.is_visit or (self.verify is not None and self.verify.in_background)


@dataclass(slots=True)
class StreamProgress:
    """How far a stream of a run is. ``expected`` grows as TikTok's counts come in."""

    expected: int = 0
    done: int = 0
    tally: Tally = field(default_factory=Tally)
    finished: bool = False


@dataclass(slots=True)
class RunReport:
    """What became of a request; alive while it runs. ``problems`` say what is missing and why.

    ``proofs`` are the comparisons that were asked for.
    """

    shop_id: str
    name: str = ""
    streams: dict[str, StreamProgress] = field(default_factory=dict)
    outcome: Outcome = "complete"
    problems: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

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
