"""The runs: one row per sync of a shop."""

from __future__ import annotations

from sync.model import Tally
from sync.store.leases import Lease
from sync.store.pool import Database


class Runs:
    """The table sync.runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, lease: Lease, *, reason: str) -> int:
        """The new run's id; runs of the shop that its process never ended are closed as abandoned."""
        return int(await self._database.value("begin_run", lease.shop_id, reason, lease.epoch))

    async def end(self, run_id: int, *, outcome: str, error: str | None, tally: Tally) -> None:
        """The run has ended with this outcome."""
        await self._database.run(
            "end_run",
            run_id,
            outcome,
            error,
            tally.requests,
            tally.fetched,
            tally.inserted,
            tally.updated,
            tally.stale,
            tally.unchanged,
            tally.rejected,
        )
