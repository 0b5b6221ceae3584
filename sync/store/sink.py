"""Writes pages: records, rejects, coverage and ledger of a page commit together, under the lease.

The statement of a stream takes the page apart in Postgres. Where most records came before, digests
are compared first, and only what is unknown is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import asyncpg
import structlog

from sync import metrics
from sync.errors import DatabaseError, FencedOutError
from sync.model import Page, Record, Tally
from sync.store.leases import Lease
from sync.store.ledger import Aside, Closing, EmptyClosings, SliceIds, close_slice, note_aside
from sync.store.page_writer import PageWriter, Target, UnfitPageError
from sync.store.pool import Database
from sync.store.queries import query
from sync.turns import Turns

log = structlog.get_logger(__name__)

_LONGEST_REASON = 500
# Far longer than any id, and short enough for the index of sync.rejects.
_LONGEST_ID = 200


class Sink:
    """Writes pages of every stream."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._empty = EmptyClosings(database)
        self._slice_ids = SliceIds(database)
        # Shops take turns: one with many pages to store keeps none with a single one waiting.
        self._turns = Turns(max(1, database.size // 2))
        # Whether a shop's stream has rejects, for only then can a good page forgive one; and the epoch in
        # which that was found out, since under another lease another process may have added some.
        self._with_rejects: dict[tuple[str, str], tuple[int, bool]] = {}
        # Whether most of what a shop's stream showed last was stored already: else a look is wasted.
        self._is_familiar: dict[tuple[str, str], bool] = {}

    async def wait_until_idle(self) -> None:
        """Returns when no page waits for its turn: more pages at a time would be stored no sooner."""
        await self._turns.wait_until_idle()

    async def write(
        self,
        target: Target,
        page: Page | None,
        *,
        lease: Lease,
        closing: Closing | None = None,
        aside: Aside | None = None,
        slice_id: int | None = None,
        is_urgent: bool = False,
    ) -> Tally:
        """What became of the page's records; with ``closing`` the slice is closed in the same transaction.

        ``slice_id`` is that of a slice which goes on; ``aside`` accounts for a read out of turn. What is
        urgent is stored before all that waits for its turn.
        Raises FencedOutError when the lease is another's by now, and then has written nothing.
        """
        if closing is not None and (page is None or not page.records):
            await self._empty.close(lease, target.stream, closing)
            metrics.SLICES.labels(target.stream, closing.verdict).inc()
            return Tally()
        async with self._turns.take(lease.shop_id, urgent=is_urgent):
            is_familiar = self._is_familiar.get((lease.shop_id, target.stream), True)
            slice_id = slice_id if aside is None else aside.slice_id
            tally = await self._put(target, page, lease, closing, aside=aside, slice_id=slice_id)
        if is_urgent:
            # A few records out of turn tell nothing of the pages of a walk.
            self._is_familiar[lease.shop_id, target.stream] = is_familiar
        for outcome in ("inserted", "updated", "stale", "unchanged", "rejected"):
            if count := getattr(tally, outcome):
                metrics.RECORDS.labels(target.stream, outcome).inc(count)
        if closing is not None:
            metrics.SLICES.labels(target.stream, closing.verdict).inc()
        return tally

    async def refuse(self, target: Target, key: str, *, lease: Lease, reason: str) -> None:
        """The key is set aside as a reject: TikTok refuses to answer for it. Raises like write."""

        async def work(connection: asyncpg.Connection) -> None:
            await _hold(connection, lease)
            await self._reject(connection, target, lease, Record(key=key, raw=b""), reason=reason)

        async with self._turns.take(lease.shop_id):
            await self._database.transact(work)

    async def draw_slice_id(self) -> int:
        """An id for a row of the ledger, for what is written before the row is."""
        return await self._slice_ids.next()

    async def _put(
        self,
        target: Target,
        page: Page | None,
        lease: Lease,
        closing: Closing | None,
        *,
        aside: Aside | None,
        slice_id: int | None,
    ) -> Tally:
        """All that the database has to do for a page: a look at what is known, and one transaction."""
        place = (lease.shop_id, target.stream)
        records = page.records if page is not None else ()
        known = await self._find_known(target, records, lease)
        unknown = [r for r in records if r.key not in known]

        async def work(connection: asyncpg.Connection, *, at_once: bool) -> Tally:
            await _hold(connection, lease)
            tally = Tally(fetched=len(records), unchanged=len(known))
            if page is not None and records:
                writer = PageWriter(connection, target, lease.shop_id, page.fetched_at, tally, len(records))
                writer.slice_id = slice_id
                writer.accepted += known
                await self._store(writer, unknown, lease, at_once)
            if closing is not None:
                await close_slice(connection, target.stream, lease.shop_id, closing, tally)
            elif aside is not None:
                await note_aside(connection, target.stream, lease.shop_id, aside, tally)
            return tally

        forgives_none = self._with_rejects.get(place) == (lease.epoch, False)
        if known and not unknown and closing is None and forgives_none:
            return Tally(fetched=len(records), unchanged=len(known))
        try:
            tally = await self._database.transact(partial(work, at_once=True))
        except UnfitPageError:
            tally = await self._database.transact(partial(work, at_once=False))
        if tally.inserted:
            self._database.is_full = False
        if records:
            self._is_familiar[place] = 2 * tally.unchanged >= len(records)
        return tally

    async def _find_known(self, target: Target, records: Sequence[Record], lease: Lease) -> set[str]:
        """Ids of records that are stored as they are, where a look is worth it; none without the lease."""
        is_familiar = self._is_familiar.get((lease.shop_id, target.stream), True)
        if not records or target.known is None or not is_familiar:
            return set()
        digests: dict[str, bytes] = {}
        # Which of several versions counts is for the statement to judge.
        repeated = {r.key for r in records if r.key and digests.setdefault(r.key, d := r.digest) != d}
        values = (lease.shop_id, list(digests), list(digests.values()), lease.owner, lease.epoch)
        try:
            return set(await self._database.value(target.known, *values) or ()) - repeated
        except DatabaseError:
            return set()  # A short cut only: the transaction knows how to wait for a database.

    async def _store(
        self, writer: PageWriter, records: Sequence[Record], lease: Lease, at_once: bool
    ) -> None:
        """Every record is stored or set aside; raises UnfitPageError when that cannot be done in one go."""
        connection, target = writer.connection, writer.target
        place = (lease.shop_id, target.stream)
        if self._with_rejects.get(place, (None,))[0] != lease.epoch:
            found = bool(await connection.fetchval(query("has_rejects"), *place))
            self._with_rejects[place] = (lease.epoch, found)
        named = [r for r in records if r.key is not None]
        if named and self._with_rejects[place][1]:
            ids = [r.key for r in named]
            writer.rejected = await connection.fetchval(query("rejected_ids"), *place, ids) or []
        if named:
            await (writer.write_at_once(named) if at_once else writer.write(named))
        # Before this page's own rejects: one of them may be another version of what was accepted.
        if self._with_rejects[place][1] and writer.accepted:
            await connection.execute(query("forgive_rejects"), *place, writer.accepted, writer.fetched_at)
        for record in (r for r in records if r.key is None):
            reason = "the record has no usable id"
            await self._reject(connection, target, lease, record, reason=reason, fetched_at=writer.fetched_at)
            writer.tally.rejected += 1
        for record, error, stored in writer.refused:
            await self._reject(
                connection,
                target,
                lease,
                record,
                reason=str(error),
                error=error,
                stored=stored,
                fetched_at=writer.fetched_at,
            )

    async def _reject(
        self,
        connection: asyncpg.Connection,
        target: Target,
        lease: Lease,
        record: Record,
        *,
        reason: str,
        error: BaseException | None = None,
        stored: bool = False,
        fetched_at: datetime | None = None,
    ) -> None:
        shop_id = lease.shop_id
        self._with_rejects[shop_id, target.stream] = (lease.epoch, True)
        record_id = record.key
        if record_id is None or len(record_id) > _LONGEST_ID:
            record_id = "sha256:" + hashlib.sha256(record.raw).hexdigest()
        log.warning(
            "record_rejected", shop_id=shop_id, stream=target.stream, record_id=record_id, stored=stored
        )
        sqlstate = getattr(error, "sqlstate", None)
        reason = reason.replace("\x00", "\ufffd")[:_LONGEST_REASON]
        values = (record_id.replace("\x00", "\ufffd"), stored, sqlstate, reason, record.raw, fetched_at)
        await connection.execute(query("record_reject"), shop_id, target.stream, *values)


async def _hold(connection: asyncpg.Connection, lease: Lease) -> None:
    """The lease is ours until the transaction ends."""
    held = await connection.fetchval(query("hold_lease"), lease.shop_id, lease.owner, lease.epoch)
    if held is None:
        lease.lost.set()
        raise FencedOutError(f"the lease of shop {lease.shop_id} was taken over")
