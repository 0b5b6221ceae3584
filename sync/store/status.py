"""What the sync would tell a person who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sync.store.pool import Database


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One shop and stream. ``lag_s`` is how far the copy is behind now; None before the first success.

    ``verdict`` is that of the newest comparison with TikTok Shop's counts, ``findings`` what still differs.
    """

    shop_id: str
    name: str
    region: str
    app: str
    state: str
    state_reason: str | None
    stream: str
    synced_until: datetime | None
    lag_s: float | None
    covered_since: datetime | None
    rows: int | None
    rejects: int
    requests_per_second: float
    succeeded_at: datetime | None
    attempted_at: datetime | None
    due_at: datetime
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    parked_reason: str | None
    synced_by: str | None
    consent_ends_at: datetime | None
    verdict: str | None = None
    compared_at: datetime | None = None
    findings: int = 0


class Status:
    """Reads the state of every connected shop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, streams: Sequence[str], *, with_rows: bool = True) -> list[StreamStatus]:
        """Every connected shop and stream, in the order of connection; rows are counted, not guessed."""
        counts: dict[tuple[str, str], int] = {}
        if with_rows:
            for row in await self._database.rows("row_counts"):
                counts[row["shop_id"], row["stream"]] = row["rows"]
        rates = {
            row["shop_id"]: row["requests_per_second"] for row in await self._database.rows("request_rates")
        }
        return [
            StreamStatus(
                rows=counts.get((row["shop_id"], row["stream"]), 0) if with_rows else None,
                requests_per_second=rates.get(row["shop_id"], 0.0),
                **dict(row),
            )
            for row in await self._database.rows("status", list(streams))
        ]

    async def ping(self) -> bool:
        """True when Postgres answers; raises DatabaseError otherwise."""
        return bool(await self._database.value("ping") == 1)
