"""``shopsync verify`` and ``shopsync explain`` as people and scripts use them."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench


async def test_the_copy_is_proven_mended_and_explained(
    connected: Bench, connection: asyncpg.Connection, simulator: RunningSimulator, tmp_path: Path
) -> None:
    unread = await connected.shopsync("verify")
    assert unread.code == 1
    assert "backfill" in unread.err
    assert (await connected.shopsync("backfill")).code == 0
    proven = await connected.shopsync("verify", LOOKBACK_S="0")
    assert proven.code == 0, proven.err
    assert proven.out.count("complete") == 12
    lost = await connection.fetch(
        "DELETE FROM tiktok.orders WHERE order_id IN"
        " (SELECT order_id FROM tiktok.orders ORDER BY md5(order_id) LIMIT 3) RETURNING shop_id, order_id"
    )
    found = await connected.shopsync("verify", "--stream", "orders", "--json")
    assert found.code == 1
    keys = [key for proof in json.loads(found.out) for f in proof["findings"] for key in f["keys"]]
    assert sorted(keys) == sorted(row["order_id"] for row in lost)
    missing = await connected.shopsync("explain", "order", lost[0]["order_id"])
    assert missing.code == 1
    assert "missing in a comparison" in missing.out
    assert "shopsync verify" in missing.err
    mended = await connected.shopsync("verify", "--stream", "orders", "--repair")
    assert mended.code == 0, mended.err
    assert mended.out.count("repaired") >= 3
    assert (await connected.shopsync("verify")).code == 0
    told = await connected.shopsync("explain", "order", lost[0]["order_id"])
    assert told.code == 0, told.err
    assert "a comparison with TikTok Shop's counts had found it missing" in told.out
    other = await connection.fetchval(
        "SELECT order_id FROM tiktok.orders ORDER BY md5(order_id) DESC LIMIT 1"
    )
    told = await connected.shopsync("explain", "order", other)
    assert "of a backfill, updates of [" in told.out
    assert "TikTok Shop counted" in told.out
    (facts,) = json.loads((await connected.shopsync("explain", "order", other, "--json")).out)
    assert facts["read"]["verdict"] == "clean"
    sku = await connection.fetchval("SELECT sku_id FROM tiktok.inventory WHERE _deleted_at IS NULL LIMIT 1")
    told = await connected.shopsync("explain", "sku", sku)
    assert told.code == 0
    assert "warehouse" in told.out


async def test_what_cannot_be_asked_for_is_explained(connected: Bench) -> None:
    for arguments, says in (
        (("verify", "--since", "yesterday"), "is not a date"),
        (("verify", "--since", "2026-02-01", "--until", "2026-01-01"), "is not before"),
        (("verify", "--stream", "returns"), "there is no stream 'returns'"),
        (("verify", "--shop", "1"), "no connected shop has the id 1"),
        (("explain", "buyer", "1"), "explain --help"),
    ):
        refused = await connected.shopsync(*arguments)
        assert (refused.code, len(refused.complaints)) == (2, 1), refused.err
        assert says in refused.err
    unknown = await connected.shopsync("explain", "order", "1")
    assert (unknown.code, unknown.complaints) == (
        1,
        ["shopsync: no order 1 is stored: `shopsync verify` compares the copy with TikTok Shop"],
    )
