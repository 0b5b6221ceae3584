"""One page on its way into the tables, whatever its records hold.

A record that the stream's statement refuses is found by halving the page, tried again with unfit
values left out, and handed back as refused if even that fails; its neighbours are stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from sync.model import Record, Tally
from sync.store.queries import load_queries, query

# What a bad record raises: values of the wrong form, broken rules, limits of the server.
_BAD_RECORD = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.StatementTooComplexError,
    UnicodeError,
)
# Fewer records may take less time. One that takes too long by itself is no bad record, though: on
# another day it may not.
_TOO_SLOW = asyncpg.QueryCanceledError


@dataclass(frozen=True, slots=True)
class Target:
    """Where the records of a stream go: the named statement, and whether a page may be halved."""

    stream: str
    statement: str
    divisible: bool = True

    @property
    def known(self) -> str | None:
        """The statement that tells by digests which records are stored as they are, if the stream has one."""
        name = f"known_{self.stream}"
        return name if name in load_queries() else None


class UnfitPageError(Exception):
    """The page takes too long, or holds a record that Postgres refuses: it has to be written in parts."""


@dataclass(slots=True)
class PageWriter:
    """One page on its way into the tables, within one transaction.

    ``rejected`` are ids of which a reject stands: their stored rows may lack values, so what equals
    them is written again, and accepted only if it was.
    """

    connection: asyncpg.Connection
    target: Target
    shop_id: str
    fetched_at: datetime
    tally: Tally
    # Of the whole page: who writes fewer of an indivisible one writes a part of it.
    count: int
    # The row of the ledger that accounts for the page.
    slice_id: int | None = None
    rejected: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[Record, BaseException, bool]] = field(default_factory=list)
    _is_lenient: bool = False
    _has_stale: bool = False

    async def write_at_once(self, records: Sequence[Record]) -> None:
        """Every record is stored; raises UnfitPageError otherwise, and then the transaction is lost."""
        try:
            self._count(await self._run_statement(records))
        except (*_BAD_RECORD, _TOO_SLOW) as error:
            raise UnfitPageError from error
        self._accept(records)

    async def write(self, records: Sequence[Record]) -> None:
        """Every record is stored or refused."""
        error = await self._attempt(records)
        if error is None:
            self._accept(records)
        elif isinstance(error, _TOO_SLOW) and (len(records) == 1 or not self.target.divisible):
            raise error
        elif not self.target.divisible:
            await self._write_list(records, error)
        elif len(records) == 1:
            await self._write_leniently(records[0], error)
        else:
            middle = len(records) // 2
            await self.write(records[:middle])
            await self.write(records[middle:])

    @asynccontextmanager
    async def _leniency(self) -> AsyncIterator[None]:
        """Values that do not fit are left out. Such a row is not the whole record: it gets no digest."""
        await self.connection.execute(query("be_lenient"))
        self._is_lenient = True
        yield
        self._is_lenient = False
        await self.connection.execute(query("be_strict"))

    async def _write_leniently(self, record: Record, error: BaseException) -> None:
        async with self._leniency():
            second_error = await self._attempt([record])
        self._refuse(record, second_error or error, stored=second_error is None)

    async def _write_list(self, records: Sequence[Record], error: BaseException) -> None:
        """A list is stored in one piece; who spoils it is found by trying each record for itself.

        When any is left out nothing passes for absent: what is stored of that record must stay.
        """
        wrong = {r: e for r in records if (e := await self._attempt([r], keeps=False))}
        async with self._leniency():
            hopeless = {r: e for r in wrong if (e := await self._attempt([r], keeps=False))}
            kept = [r for r in records if r not in hopeless]
            last_error = await self._attempt(kept) if kept else None
        for record in records:
            if record in wrong or last_error is not None:
                is_stored = record not in hopeless and last_error is None
                self._refuse(record, hopeless.get(record) or wrong.get(record) or error, stored=is_stored)
            else:
                self._accept([record])

    def _accept(self, records: Sequence[Record]) -> None:
        # Which of them are stale is not said: a reject among them stands until the next time.
        doubtful = self.rejected if self._has_stale else ()
        self.accepted += [r.key for r in records if r.key is not None and r.key not in doubtful]

    def _refuse(self, record: Record, error: BaseException, *, stored: bool) -> None:
        self.tally.rejected += not stored
        self.refused.append((record, error, stored))

    async def _attempt(self, records: Sequence[Record], *, keeps: bool = True) -> BaseException | None:
        """What speaks against storing the records together; None when they are stored, or could be."""
        attempt = self.connection.transaction()
        await attempt.start()
        try:
            row = await self._run_statement(records)
        except (*_BAD_RECORD, _TOO_SLOW) as error:
            await attempt.rollback()
            return error
        if keeps:
            await attempt.commit()
            self._count(row)
        else:
            await attempt.rollback()
        return None

    async def _run_statement(self, records: Sequence[Record]) -> asyncpg.Record:
        # Bytes: one character beyond the common ones would make a string of four bytes for each.
        array = b"[" + b",".join([r.raw for r in records]) + b"]"
        values = [self.shop_id, array, self.fetched_at, [r.key for r in records if r.scrubbed]]
        if self.target.known is not None:
            values.append([None if self._is_lenient else r.digest for r in records])
        # What did not fit is not written once more without it.
        values.append([] if self._is_lenient else self.rejected)
        if not self.target.divisible:
            values.append(len(records) == self.count)
        values.append(self.slice_id)
        return await self.connection.fetchrow(query(self.target.statement), *values)

    def _count(self, row: asyncpg.Record) -> None:
        self._has_stale = row["stale"] > 0
        for name in ("inserted", "updated", "stale", "unchanged"):
            setattr(self.tally, name, getattr(self.tally, name) + row[name])
