"""What every stream promises, whatever it copies. A new stream is tested by being registered."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync.app import App
from sync.engine.api import ShopApi
from sync.model import Page, Record, Window
from sync.simulator.server import RunningSimulator
from sync.store.leases import Lease, LeaseKeeper
from sync.store.page_writer import Target
from sync.store.pool import Database
from sync.store.queries import load_queries
from sync.store.sink import Sink
from sync.streams.base import ParentKeys, Stream, TimeWindows, WholeList
from sync.streams.registry import STREAMS, select_streams
from sync.tiktok.limiter import Pacer
from tests.conftest import StartSimulator
from tests.oracle import fetch_truth
from tests.support import connected_app, make_settings

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 3, 1, tzinfo=UTC)
Json = dict[str, Any]
every_stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())


@dataclass(slots=True)
class Bench:
    """One shop of a simulator, and a way to write its records by hand."""

    app: App
    simulator: RunningSimulator
    sink: Sink
    lease: Lease
    connection: asyncpg.Connection

    async def records(self, stream: Stream) -> list[Json]:
        """Some records of the stream as the API sends them, each with an id."""
        records = await fetch_truth(self.simulator.url, self.lease.shop_id, stream.name)
        kept = [record for record in records if record.get("status") != "DELETED"][:4]
        assert len(kept) >= 2
        return kept

    async def write(self, stream: Stream, records: list[Json | Record], *, at_s: int = 0) -> dict[str, int]:
        made = tuple(
            r if isinstance(r, Record) else Record(key=str(r[stream.key]), raw=json.dumps(r).encode())
            for r in records
        )
        fetched_at = T0 + timedelta(seconds=at_s)
        page = Page(records=made, next_token=None, total=len(made), fetched_at=fetched_at)
        target = Target(stream.name, stream.statement, divisible=not isinstance(stream.slicing, WholeList))
        tally = await self.sink.write(target, page, lease=self.lease)
        names = ("inserted", "updated", "stale", "unchanged", "rejected")
        return {name: getattr(tally, name) for name in names if getattr(tally, name)}

    async def contents(self) -> dict[str, list[str]]:
        """Every row that people query, with everything that changes when it is rewritten."""
        tables = await self.connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'tiktok'::regnamespace AND relkind = 'r'"
        )
        return {
            t["relname"]: [
                row[0]
                for row in await self.connection.fetch(
                    f"SELECT to_jsonb(t)::text || t.xmin::text FROM tiktok.{t['relname']} AS t ORDER BY 1"
                )
            ]
            for t in tables
        }

    async def rejects(self) -> dict[str, bool]:
        rows = await self.connection.fetch("SELECT record_id, stored FROM sync.rejects ORDER BY 1")
        return dict(rows)


@pytest.fixture
async def bench(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> AsyncIterator[Bench]:
    simulator = await start_simulator(orders_per_shop=12, products_per_shop=8, flash_sale_orders=0)
    async with (
        connected_app(make_settings(database_url, simulator), simulator) as app,
        Database(database_url, size=2) as database,
        LeaseKeeper(database_url) as keeper,
    ):
        lease = await keeper.acquire((await app.store.shops.list())[0].shop.shop_id)
        assert lease is not None
        yield Bench(app, simulator, Sink(database), lease, connection)


def newer(record: Json, seconds: int) -> Json:
    """The record as a later version of it, changed where every entity can change."""
    changed = copy.deepcopy(record)
    if "update_time" in changed:
        changed["update_time"] += seconds
    changed["conformance_note"] = f"version {seconds}"
    for sku in changed.get("skus", []):
        sku["conformance_note"] = f"version {seconds}"
    return changed


@every_stream
def test_the_statement_and_what_lists_its_keys_exist(stream: Stream) -> None:
    assert stream.statement in load_queries()
    if isinstance(stream.slicing, ParentKeys):
        assert stream.slicing.keys in load_queries()
        assert stream.slicing.after in STREAMS
        assert list(STREAMS).index(stream.slicing.after) < list(STREAMS).index(stream.name)


@every_stream
def test_the_stream_has_a_table_of_its_name_that_people_are_told_about(stream: Stream) -> None:
    assert stream.name in (ROOT / "README.md").read_text() or any(
        stream.name in path.read_text() for path in (ROOT / "docs").glob("*.md")
    )


@every_stream
def test_a_window_is_asked_for_whole_and_in_bodies_that_cannot_be_mistaken(stream: Stream) -> None:
    if not isinstance(stream.slicing, TimeWindows):
        return
    since = datetime(2026, 1, 1, tzinfo=UTC)
    for body_of in stream.slicing.bodies:
        body = body_of(Window(since, since + timedelta(seconds=1)))
        assert body["update_time_ge"] == int(since.timestamp())
        last = body["update_time_lt"] - 1 if "update_time_lt" in body else body["update_time_le"]
        assert last == body["update_time_ge"]


def test_every_named_stream_can_be_chosen_in_the_registry_s_order() -> None:
    assert [s.name for s in select_streams(reversed(list(STREAMS)))] == list(STREAMS)
    assert [s.name for s in select_streams(None)] == list(STREAMS)


@every_stream
async def test_every_table_and_column_carries_a_comment(
    stream: Stream, connection: asyncpg.Connection
) -> None:
    rows = await connection.fetch(
        "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'tiktok'::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND coalesce(length(col_description(c.oid, a.attnum)), 0) < 8"
    )
    assert [tuple(r) for r in rows] == []
    assert await connection.fetchval("SELECT obj_description($1::regclass)", f"tiktok.{stream.name}")


@every_stream
async def test_the_table_s_key_begins_with_the_shop_and_its_types_are_those_of_the_contract(
    stream: Stream, connection: asyncpg.Connection
) -> None:
    first = await connection.fetchval(
        "SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a"
        " ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indrelid = $1::regclass AND i.indisprimary",
        f"tiktok.{stream.name}",
    )
    assert first == "shop_id"
    types = dict(
        await connection.fetch(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'tiktok' AND table_name = $1",
            stream.name,
        )
    )
    assert types["_raw"] == "jsonb"
    assert types["_synced_at"] == "timestamp with time zone"
    for name, kind in types.items():
        if re.search(r"_(id|status|type)$|^(status|type|currency)$", name):
            assert kind == "text", name
        if name.endswith("_time"):
            assert kind == "timestamp with time zone", name
        assert kind not in ("real", "double precision", "timestamp without time zone"), name


@every_stream
async def test_the_stream_s_request_is_one_that_the_api_accepts(stream: Stream, bench: Bench) -> None:
    shop = (await bench.app.store.shops.list())[0].shop
    api = ShopApi(
        shop,
        app=bench.app.apps.get(shop.app),
        tokens=bench.app.tokens,
        pacer=Pacer(1000),
        lease=bench.lease,
    )
    now = datetime.now(UTC).replace(microsecond=0)
    slicing = stream.slicing
    if isinstance(slicing, TimeWindows):
        bodies = tuple(body_of(Window(now - timedelta(days=4000), now)) for body_of in slicing.bodies)
    elif isinstance(slicing, ParentKeys):
        parents = await fetch_truth(bench.simulator.url, shop.shop_id, slicing.after)
        assert slicing.size >= len(parents)
        bodies = (slicing.body(tuple(p["id"] for p in parents if p.get("status") != "DELETED")),)
    else:
        bodies = ({},)
    pages = [(await api.fetch(stream, body))[0] for body in bodies]
    records = [record for page in pages for record in page.records]
    assert records
    assert all(record.key for record in records)
    assert stream.scope in shop.granted_scopes
    assert not bench.simulator.simulation.meter.codes


@every_stream
async def test_a_page_lands_and_the_second_time_changes_nothing(stream: Stream, bench: Bench) -> None:
    records: list[Any] = await bench.records(stream)
    tally = await bench.write(stream, records)
    assert set(tally) == {"inserted"}
    assert tally["inserted"] >= len(records)
    before = await bench.contents()
    assert len(before[stream.name]) >= len(records)
    again = await bench.write(stream, list(reversed(records)), at_s=60)
    assert set(again) == {"unchanged"}
    assert await bench.contents() == before


@every_stream
async def test_a_newer_page_wins_and_a_stale_one_changes_nothing(stream: Stream, bench: Bench) -> None:
    records = await bench.records(stream)
    await bench.write(stream, list(records))
    later = [newer(record, 100) for record in records]
    tally = await bench.write(stream, list(later), at_s=100)
    assert set(tally) == {"updated"}
    before = await bench.contents()
    assert "version 100" in "".join(before[stream.name])
    stale = await bench.write(stream, [newer(record, 50) for record in records], at_s=50)
    assert set(stale) == {"stale"}
    assert await bench.contents() == before


@every_stream
async def test_a_record_that_cannot_be_stored_is_isolated_and_forgiven_later(
    stream: Stream, bench: Bench
) -> None:
    good, poisoned, *rest = await bench.records(stream)
    key = str(poisoned[stream.key])
    raw = f'{{"{stream.key}":"{key}","x":'.encode() + b"[" * 100_000 + b"]" * 100_000 + b"}"
    tally = await bench.write(stream, [good, Record(key=key, raw=raw), *rest])
    assert tally["rejected"] == 1
    assert await bench.rejects() == {key: False}
    stored = "".join((await bench.contents())[stream.name])
    for record in (good, *rest):
        assert str(record[stream.key]) in stored
    assert f'"{key}"' not in stored
    await bench.write(stream, [good, poisoned, *rest], at_s=10)
    assert await bench.rejects() == {}
    assert f'"{key}"' in "".join((await bench.contents())[stream.name])


@every_stream
async def test_text_that_was_scrubbed_is_flagged(stream: Stream, bench: Bench) -> None:
    first, second, *_ = await bench.records(stream)
    dirty = Record(
        key=str(first[stream.key]), raw=json.dumps(first | {"note": "a\ufffdb"}).encode(), scrubbed=True
    )
    await bench.write(stream, [dirty, second])
    flagged = await bench.connection.fetchval(f"SELECT count(*) FROM tiktok.{stream.name} WHERE _scrubbed")
    total = await bench.connection.fetchval(f"SELECT count(*) FROM tiktok.{stream.name}")
    assert 0 < flagged < total
    assert await bench.rejects() == {}
