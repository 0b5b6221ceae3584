"""The runs: one row per sync of a shop that has anything to tell."""

from __future__ import annotations

from collections.abc import Sequence

from sync.model import Tally
from sync.store.leases import Lease
from sync.store.pool import Database
from sync.store.together import Together

# Rows of the ledger that one transaction sums up.
_AT_ONCE = 5_000


class Runs:
    """The table sync.runs, and how long the ledger is kept. Whoever begins a run holds the shop's lease."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reserving: Together[str, int] = Together(self._reserve, key=lambda shop_id: shop_id)

    async def begin(self, lease: Lease, *, reason: str) -> int:
        """The new run's id; runs of the shop that its process never ended are closed as abandoned."""
        return int(await self._database.value("begin_run", lease.shop_id, reason, lease.epoch))

    async def reserve(self, lease: Lease) -> int:
        """Like begin, but the row comes with the run's first slice that changes anything, or with show."""
        return await self._reserving.ask(lease.shop_id)

    async def show(self, run_id: int, lease: Lease, *, reason: str, age_s: float) -> None:
        """The run, begun that long ago, has its row, unless the lease is another's by now."""
        values = (run_id, lease.shop_id, reason, lease.epoch, age_s, lease.owner)
        await self._database.run("show_run", *values)

    async def end(self, run_id: int, *, outcome: str, error: str | None, tally: Tally) -> None:
        """The run has ended with this outcome, if it has a row."""
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

    async def sum_up(self, *, days: int) -> int:
        """Slices older than that are summed up by day, runs and findings forgotten: so many rows.

        A part of them at a time.
        """
        slices = int(await self._database.value("sum_up_slices", days, _AT_ONCE))
        return slices + int(await self._database.value("forget_runs", days, _AT_ONCE))

    async def _reserve(self, shop_ids: Sequence[str]) -> list[int]:
        rows = await self._database.rows("reserve_runs", list(shop_ids))
        ids = {row["shop_id"]: int(row["run_id"]) for row in rows}
        return [ids[shop_id] for shop_id in shop_ids]
