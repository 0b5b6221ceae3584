"""Records of any shape, by the real way from bytes to Postgres, and what must hold for each page.

A page holds good records and spoiled copies of good ones. The good ones must be stored as if they had come
alone; of the others each must be in its table as it was sent, or in ``sync.rejects`` with a reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as use_seed

from sync.model import Page, Record, Tally
from sync.store.leases import Lease, LeaseKeeper
from sync.store.page_writer import Target
from sync.store.pool import Database
from sync.store.sink import Sink
from sync.streams.base import WholeList
from sync.streams.registry import STREAMS
from sync.tiktok.envelope import read_envelope, read_page
from tests.integration.store_probe import closing
from tests.shapes import GOOD, SPOILED_PAGES, Json, Spoil, encode, places, samples, spoil

_STOCKED = (
    "sku_id = ANY (ARRAY(SELECT sku_id FROM tiktok.inventory WHERE shop_id = $1 AND product_id = ANY ($2)))"
)
# The tables of a stream, each with what chooses the rows that come from the records of these ids.
_TABLES = {
    "orders": (("orders", "order_id = ANY ($2)"), ("order_line_items", "order_id = ANY ($2)")),
    "products": (("products", "product_id = ANY ($2)"), ("skus", "product_id = ANY ($2)")),
    "inventory": (("inventory", "product_id = ANY ($2)"), ("inventory_history", _STOCKED)),
    "warehouses": (("warehouses", "warehouse_id = ANY ($2)"),),
}
_ROWS = (
    "SELECT to_jsonb(t) - '{_synced_at,_fetched_at,_digest,valid_from,shop_id%s}'::text[] FROM tiktok.%s AS t"
    " WHERE shop_id = $1 AND %s"
    "   AND coalesce(to_jsonb(t)->>'_deleted_at', to_jsonb(t)->>'valid_to') IS NULL"
)
# What a row of stock keeps while its quantities stay the same: that it was another product's once, as a wrong
# answer had it, and that a text beside it was scrubbed.
_LINGERING = {"inventory": ",_scrubbed", "inventory_history": ",product_id"}
_REJECTS = "FROM sync.rejects WHERE shop_id = $1 AND stream = $2 AND record_id = ANY ($3)"


@asynccontextmanager
async def open_stage(database_url: str) -> AsyncIterator[Stage]:
    """A stage on this database."""
    connection = await asyncpg.connect(database_url)
    try:
        async with Database(database_url, size=2) as database, LeaseKeeper(database_url) as keeper:
            yield Stage(connection, Sink(database), keeper)
    finally:
        await connection.close()


class Stage:
    """A database in which each page of records is a shop of its own."""

    def __init__(self, connection: asyncpg.Connection, sink: Sink, keeper: LeaseKeeper) -> None:
        self._connection = connection
        self._sink = sink
        self._keeper = keeper
        self._samples = samples()
        self._shops = itertools.count(1)
        self._now = datetime.now(UTC)

    async def try_page(self, stream: str, spoils: list[list[Spoil]]) -> list[str]:
        """One line for each thing that is wrong once the page is stored, stored again, and put right."""
        good, bad = self._samples[stream][:GOOD], self._samples[stream][GOOD:][: len(spoils)]
        sent = [spoil(record, some) for record, some in zip(bad, spoils, strict=False)]
        mixed = [one for pair in itertools.zip_longest(good, sent) for one in pair if one is not None]
        alone = await self._lease()
        await self._write(stream, good + bad, alone)
        lease = await self._lease()
        page, tally = await self._write(stream, mixed, lease)
        names = [str(record[STREAMS[stream].key]) for record in good]
        problems = await self._compare(stream, names, (alone, lease), "beside bad records")
        problems += [line for record in page.records for line in await self._account(stream, record, lease)]
        names_sent = [record.key for record in page.records]
        distinct = len({*names_sent} - {None}) + names_sent.count(None)
        # Of stock each row is judged, and not each record.
        if stream != "inventory" and (judged := tally.inserted + tally.rejected) != distinct:
            problems.append(f"{judged} of {distinct} records were judged: {tally}")
        _, again = await self._write(stream, mixed, lease, later_s=60)
        if again.inserted or again.updated:
            problems.append(f"the same page changed something: {again}")
        await self._write(stream, good + bad, lease, later_s=120)
        names += [str(record[STREAMS[stream].key]) for record in bad]
        problems += await self._compare(stream, names, (alone, lease), "once it was put right")
        return problems + await self._rejects(stream, names, lease)

    def place_of_key(self, stream: str) -> int:
        """The place of the id in a record, for all that are spoiled alike."""
        record = self._samples[stream][GOOD]
        found = [(container is record, name) for container, name in places(record)]
        return found.index((True, STREAMS[stream].key))

    async def _lease(self) -> Lease:
        lease = await self._keeper.acquire(f"shape {next(self._shops)}")
        assert lease is not None
        return lease

    async def _write(
        self, stream: str, records: list[Json], lease: Lease, *, later_s: int = 0
    ) -> tuple[Page, Tally]:
        envelope = read_envelope(encode(records))
        page = read_page(
            bytes(envelope.data),
            records="records",
            key=STREAMS[stream].key,
            fetched_at=self._now + timedelta(seconds=later_s),
        )
        assert len(page.records) == len(records)
        divisible = not isinstance(STREAMS[stream].slicing, WholeList)
        target = Target(stream, STREAMS[stream].statement, divisible=divisible)
        end = closing(later_s, later_s + 60)
        return page, await self._sink.write(target, page, lease=lease, closing=end)

    async def _rows(self, stream: str, names: list[str], lease: Lease) -> list[list[str]]:
        return [
            sorted(r[0] for r in await self._connection.fetch(_select(*table), lease.shop_id, names))
            for table in _TABLES[stream]
        ]

    async def _compare(
        self, stream: str, names: list[str], leases: tuple[Lease, Lease], when: str
    ) -> list[str]:
        expected, stored = [await self._rows(stream, names, lease) for lease in leases]
        return [
            f"{table} {when}: missing {sorted({*a} - {*b})!s:.600}, extra {sorted({*b} - {*a})!s:.600}"
            for (table, _), a, b in zip(_TABLES[stream], expected, stored, strict=True)
            if a != b
        ]

    async def _account(self, stream: str, record: Record, lease: Lease) -> list[str]:
        """What is wrong with the fate of one record of a page."""
        digest = "sha256:" + hashlib.sha256(record.raw).hexdigest()
        ids = [digest] if record.key is None else [record.key, digest]
        reject = await self._connection.fetchrow(
            f"SELECT stored, reason {_REJECTS}",
            lease.shop_id, stream, ids,
        )  # fmt: skip
        # Of stock that is stored in part nothing may be left to store.
        if reject is not None and (stream == "inventory" or not reject["stored"]):
            return [] if reject["reason"] else [f"{ids[0]:.40} is a reject without a reason"]
        if stream == "inventory" and not _lists_stock(record.raw):
            return []
        table, condition = _TABLES[stream][0]
        rows = await self._connection.fetch(
            f"SELECT _raw::text FROM tiktok.{table} WHERE shop_id = $1 AND {condition}",
            lease.shop_id, [record.key],
        )  # fmt: skip
        if not rows:
            return [f"{ids[0]:.40} is nowhere: {record.raw!r:.600}"]
        is_whole = stream == "inventory" or await self._connection.fetchval(
            "SELECT $1::jsonb = $2::jsonb", rows[0][0], record.raw.decode()
        )
        return [] if is_whole else [f"{ids[0]:.40} is stored as {rows[0][0]:.300}, sent {record.raw!r:.300}"]

    async def _rejects(self, stream: str, names: list[str], lease: Lease) -> list[str]:
        rows = await self._connection.fetch(
            f"SELECT record_id, reason {_REJECTS}",
            lease.shop_id, stream, names,
        )  # fmt: skip
        return [f"{row[0]} stays a reject: {row[1]}" for row in rows]


def _select(table: str, condition: str) -> str:
    return _ROWS % (_LINGERING.get(table, ""), table, condition)


def _lists_stock(raw: bytes) -> bool:
    skus = json.loads(raw, parse_int=str).get("skus") or []
    return not isinstance(skus, list) or any(
        not isinstance(sku, dict) or sku.get("warehouse_inventory") for sku in skus
    )


def try_pages(database_url: str, stream: str, *, examples: int, seed: int) -> None:
    """So many pages held what must hold; raises AssertionError. The same seed makes the same pages."""
    with asyncio.Runner() as runner:
        stages = open_stage(database_url)
        stage = runner.run(stages.__aenter__())

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            # A page that is wrong is told as it is: to make it smaller takes minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(SPOILED_PAGES)
        def try_page(spoils: list[list[Spoil]]) -> None:
            problems = runner.run(stage.try_page(stream, spoils))
            assert not problems, "\n".join(problems)

        try:
            use_seed(seed)(try_page)()
        finally:
            runner.run(stages.__aexit__(None, None, None))
