"""The ledger is kept from growing without end."""

from __future__ import annotations

import time

import structlog

from sync.store.runs import Runs

log = structlog.get_logger(__name__)

_EVERY_S = 3_600.0
# While there is more than one transaction takes on.
_SOON_S = 10.0
_MANY = 5_000


class Upkeep:
    """Sums up what is older than ``days``, a part at a time."""

    def __init__(self, *, runs: Runs, days: int) -> None:
        self._runs = runs
        self._days = days
        self._due_at = 0.0

    async def look(self) -> None:
        """Most of the time it does nothing. Raises DatabaseError."""
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + _EVERY_S
        if summed := await self._runs.sum_up(days=self._days):
            log.info("ledger_summed", rows=summed)
        if summed >= _MANY:
            self._due_at = now + _SOON_S
