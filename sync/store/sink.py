"""Writes pages: records, rejects, coverage and ledger of a page commit together, under the lease.

The statement of a stream takes the page apart in Postgres. A record that it refuses is found by
halving the page, tried again with values that do not fit left out, and set aside if even that
fails; its neighbours are stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog

from sync import metrics
from sync.errors import FencedOutError
from sync.model import Page, Record, Tally
from sync.store.leases import Lease
from sync.store.ledger import Closing, close_slice
from sync.store.pool import Database
from sync.store.queries import query

log = structlog.get_logger(__name__)

# What a bad record raises: values of the wrong form, broken rules, limits of the server.
_BAD_RECORD = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.StatementTooComplexError,
    UnicodeError,
)
_LONGEST_REASON = 500
# Far longer than any id, and short enough for the index of sync.rejects.
_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Where the records of a stream go: the named statement, and whether a page may be halved."""

    stream: str
    statement: str
    divisible: bool = True


class Sink:
    """Writes pages of every stream."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Whether a shop's stream has rejects, for only then can a good page forgive one; and the epoch in
        # which that was found out, since under another lease another process may have added some.
        self._with_rejects: dict[tuple[str, str], tuple[int, bool]] = {}

    async def write(
        self, target: Target, page: Page | None, *, lease: Lease, closing: Closing | None = None
    ) -> Tally:
        """What became of the page's records; with ``closing`` the slice is closed in the same transaction.

        Raises FencedOutError when the lease is another's by now, and then has written nothing.
        """
        shop_id = lease.shop_id

        async def work(connection: asyncpg.Connection) -> Tally:
            await _hold(connection, lease)
            tally = Tally()
            if page is not None and page.records:
                tally = await self._store(connection, target, lease, page)
            if closing is not None:
                await close_slice(connection, target.stream, shop_id, closing, tally)
            return tally

        tally = await self._database.transact(work)
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
            record = Record(key=key, raw=b"")
            await self._reject(connection, target, lease, record, reason=reason[:_LONGEST_REASON])

        await self._database.transact(work)

    async def _store(self, connection: asyncpg.Connection, target: Target, lease: Lease, page: Page) -> Tally:
        place = (lease.shop_id, target.stream)
        if self._with_rejects.get(place, (None,))[0] != lease.epoch:
            found = bool(await connection.fetchval(query("has_rejects"), *place))
            self._with_rejects[place] = (lease.epoch, found)
        tally = Tally(fetched=len(page.records))
        nameless = [r for r in page.records if r.key is None]
        for record in nameless:
            await self._reject(connection, target, lease, record, reason="the record has no usable id")
            tally.rejected += 1
        writer = _PageWriter(connection, target, lease.shop_id, page.fetched_at, tally)
        await writer.write([r for r in page.records if r.key is not None])
        for record, error, stored in writer.refused:
            await self._reject(
                connection, target, lease, record, reason=_reason(error), error=error, stored=stored
            )
        if self._with_rejects[place][1] and writer.accepted:
            await connection.execute(query("forgive_rejects"), *place, writer.accepted)
        return tally

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
    ) -> None:
        shop_id = lease.shop_id
        self._with_rejects[shop_id, target.stream] = (lease.epoch, True)
        record_id = record.key
        if record_id is None or len(record_id) > _LONGEST_ID:
            record_id = "sha256:" + hashlib.sha256(record.raw).hexdigest()
        log.warning(
            "record_rejected", shop_id=shop_id, stream=target.stream, record_id=record_id, stored=stored
        )
        await connection.execute(
            query("record_reject"),
            shop_id,
            target.stream,
            record_id.replace("\x00", "\ufffd"),
            stored,
            getattr(error, "sqlstate", None),
            reason,
            record.raw,
        )


class _PageWriter:
    """One page on its way into the tables, within one transaction."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        target: Target,
        shop_id: str,
        fetched_at: datetime,
        tally: Tally,
    ) -> None:
        self._connection = connection
        self._target = target
        self._shop_id = shop_id
        self._fetched_at = fetched_at
        self._tally = tally
        self.accepted: list[str] = []
        self.refused: list[tuple[Record, BaseException, bool]] = []

    async def write(self, records: Sequence[Record]) -> None:
        """Every record is stored or refused."""
        if not records:
            return
        error = await self._attempt(records)
        if error is None:
            self.accepted += [r.key for r in records if r.key is not None]
        elif not self._target.divisible:
            await self._write_list(records, error)
        elif len(records) == 1:
            await self._write_leniently(records[0], error)
        else:
            middle = len(records) // 2
            await self.write(records[:middle])
            await self.write(records[middle:])

    async def _write_leniently(self, record: Record, error: BaseException) -> None:
        await self._connection.execute(query("be_lenient"))
        second_error = await self._attempt([record])
        await self._connection.execute(query("be_strict"))
        self._refuse(record, second_error or error, stored=second_error is None)

    async def _write_list(self, records: Sequence[Record], error: BaseException) -> None:
        """A list is stored in one piece; who spoils it is found by trying each record for itself."""
        wrong = {r: e for r in records if (e := await self._attempt([r], keeps=False))}
        await self._connection.execute(query("be_lenient"))
        hopeless = {r: e for r in wrong if (e := await self._attempt([r], keeps=False))}
        kept = [r for r in records if r not in hopeless]
        last_error = await self._attempt(kept) if kept else None
        await self._connection.execute(query("be_strict"))
        for record in records:
            if record in wrong or last_error is not None:
                is_stored = record not in hopeless and last_error is None
                self._refuse(record, hopeless.get(record) or wrong.get(record) or error, stored=is_stored)
            elif record.key is not None:
                self.accepted.append(record.key)

    def _refuse(self, record: Record, error: BaseException, *, stored: bool) -> None:
        self._tally.rejected += not stored
        self.refused.append((record, error, stored))

    async def _attempt(self, records: Sequence[Record], *, keeps: bool = True) -> BaseException | None:
        """What speaks against storing the records together; None when they are stored, or could be."""
        attempt = self._connection.transaction()
        await attempt.start()
        try:
            text = (b"[" + b",".join(r.raw for r in records) + b"]").decode()
            scrubbed = [r.key for r in records if r.scrubbed]
            row = await self._connection.fetchrow(
                query(self._target.statement), self._shop_id, text, self._fetched_at, scrubbed
            )
        except _BAD_RECORD as error:
            await attempt.rollback()
            return error
        if not keeps:
            await attempt.rollback()
            return None
        await attempt.commit()
        for name in ("inserted", "updated", "stale", "unchanged"):
            setattr(self._tally, name, getattr(self._tally, name) + row[name])
        return None


async def _hold(connection: asyncpg.Connection, lease: Lease) -> None:
    """The lease is ours until the transaction ends."""
    held = await connection.fetchval(query("hold_lease"), lease.shop_id, lease.owner, lease.epoch)
    if held is None:
        lease.lost.set()
        raise FencedOutError(f"the lease of shop {lease.shop_id} was taken over")


def _reason(error: BaseException) -> str:
    return str(error).replace("\x00", "\ufffd")[:_LONGEST_REASON]
