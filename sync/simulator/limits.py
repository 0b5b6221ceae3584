"""Counts requests per shop in a sliding second, as the platform's limit and the statistics do."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Arrivals:
    """The requests of one shop: how many came, and the most that fell into any (t-1, t]."""

    requests: int = 0
    worst_second: int = 0
    rate_limited: int = 0
    by_path: Counter[str] = field(default_factory=Counter)
    first_at: float | None = None
    last_at: float | None = None
    _second: deque[float] = field(default_factory=deque)

    def arrive(self, at: float, path: str) -> int:
        """One more request came at ``at`` (monotonic); returns how many the last second holds with it."""
        second = self._second
        second.append(at)
        while second[0] <= at - 1.0:
            second.popleft()
        self.requests += 1
        self.by_path[path] += 1
        self.first_at = at if self.first_at is None else self.first_at
        self.last_at = at
        self.worst_second = max(self.worst_second, len(second))
        return len(second)

    def summary(self) -> dict[str, object]:
        """The counts as the statistics endpoint shows them."""
        span_s = (
            (self.last_at - self.first_at) if self.last_at is not None and self.first_at is not None else 0.0
        )
        return {
            "requests": self.requests,
            "worst_second": self.worst_second,
            "rate_limited": self.rate_limited,
            "span_s": round(span_s, 3),
            "by_path": dict(self.by_path),
        }


@dataclass(slots=True)
class Meter:
    """All counts of one run; calls without a cipher are counted under "seller:<open_id>"."""

    requests: int = 0
    token_gets: int = 0
    token_refreshes: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    arrivals: dict[str, Arrivals] = field(default_factory=dict)

    def of(self, key: str) -> Arrivals:
        """The counts under this key, fresh ones if it is new."""
        return self.arrivals.setdefault(key, Arrivals())

    def reset(self) -> None:
        """Every count is zero again; what the running second already holds still counts for the limit."""
        self.requests = self.token_gets = self.token_refreshes = 0
        self.codes.clear()
        self.arrivals = {key: Arrivals(_second=old._second) for key, old in self.arrivals.items()}

    def summary(self) -> dict[str, object]:
        """All counts as the statistics endpoint shows them."""
        shops = {key: one.summary() for key, one in self.arrivals.items() if not key.startswith("seller:")}
        sellers = {key[7:]: one.summary() for key, one in self.arrivals.items() if key.startswith("seller:")}
        return {
            "requests": self.requests,
            "token_calls": self.token_gets,
            "refreshes": self.token_refreshes,
            "codes": {str(code): count for code, count in sorted(self.codes.items())},
            "shops": shops,
            "sellers": sellers,
        }
