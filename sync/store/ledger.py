"""The ledger of slices: what each one found, written in the transaction that closes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from sync.model import Batch, Slice, Tally, Window
from sync.store.queries import query


@dataclass(frozen=True, slots=True)
class Closing:
    """What is known of a slice when its last page is written."""

    run_id: int
    slice_: Slice
    verdict: str
    started_at: datetime
    settled_until: datetime
    first_total: int | None = None
    last_total: int | None = None
    distinct_ids: int = 0
    walks: int = 1
    tally: Tally = field(default_factory=Tally)
    covers: bool = True


async def close_slice(
    connection: asyncpg.Connection, stream: str, shop_id: str, closing: Closing, tally: Tally
) -> None:
    """The slice is covered and has its row in the ledger, once the transaction commits."""
    slice_ = closing.slice_
    if closing.covers and isinstance(slice_, Window):
        await connection.execute(
            query("cover"), shop_id, stream, slice_.since, slice_.until, closing.settled_until
        )
    total = Tally()
    total.add(closing.tally)
    total.add(tally)
    await connection.execute(
        query("record_slice"),
        closing.run_id,
        shop_id,
        stream,
        slice_.since if isinstance(slice_, Window) else None,
        slice_.until if isinstance(slice_, Window) else None,
        len(slice_.keys) if isinstance(slice_, Batch) else None,
        closing.verdict,
        closing.first_total,
        closing.last_total,
        closing.distinct_ids,
        closing.walks,
        total.requests,
        total.fetched,
        total.inserted,
        total.updated,
        total.stale,
        total.unchanged,
        total.rejected,
        closing.started_at,
    )
