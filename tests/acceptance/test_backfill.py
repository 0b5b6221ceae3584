"""``shopsync backfill`` is killed, interrupted and started twice, and still stores everything once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.acceptance.processes import Bench, Simulator, bench_environment, connect_sellers, simulate, until
from tests.oracle import compare

_KILLS = 10
_ORDERS = 6_000
_SEARCH = "/order/202309/orders/search"
_COVERED = (
    "SELECT coalesce(sum(distinct_ids), 0) FROM sync.slices WHERE stream = 'orders' AND verdict <> 'cut'"
)
_STORED = "SELECT count(*) FROM tiktok.orders"


@pytest.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Simulator]:
    """Three shops of 2,000 orders that answer as slowly as the real ones."""
    folder = tmp_path / "simulator"
    folder.mkdir()
    size = ("--shops", "3", "--orders", "2000", "--products", "60", "--flash-sale", "300")
    async with simulate(folder, *size, "--latency", "0.05", "--mutations", "0") as simulator:
        yield simulator


@pytest.fixture
async def bench(tmp_path: Path, database_url: str, shops: Simulator) -> AsyncIterator[Bench]:
    await connect_sellers(database_url, shops.url)
    opened = Bench(tmp_path, bench_environment(database_url, shops.url))
    yield opened
    await opened.close()


async def test_a_backfill_killed_ten_times_ends_true_and_does_not_start_over(
    bench: Bench, shops: Simulator, connection: asyncpg.Connection
) -> None:
    # Slow shops, so that ten kills fall into the reading and not behind it.
    await shops.post("settings", latency_s=0.05)
    await shops.post("mutate", per_second=20)
    moments = random.Random(20260)
    longest_start_s = 0.0
    for _ in range(_KILLS):
        enough = await connection.fetchval(_COVERED) + moments.randint(1, 450)
        asked = await shops.requests()
        started = time.monotonic()
        run = await bench.start("backfill")

        async def has_asked(asked: int = asked) -> bool:
            return await shops.requests() > asked

        async def has_progressed(enough: int = enough) -> bool:
            return bool(await connection.fetchval(_COVERED) >= enough)

        await until(has_asked, "the restarted backfill asks for something")
        longest_start_s = max(longest_start_s, time.monotonic() - started)
        await until(has_progressed, "the backfill progresses", every_s=0.01)
        assert run.is_running, "killed too late: nothing was left to read"
        await run.kill()
    # The lease of a killed process lives for half a minute: nobody may wait for it.
    assert longest_start_s < 10
    await shops.quiet_down()
    await shops.post("stats/reset")
    finished = await bench.shopsync("backfill")
    pages = sum(shop["by_path"][_SEARCH] for shop in (await shops.get("stats"))["shops"].values())
    assert finished.code == 0, finished.err
    assert await compare(connection, shops.url, await shops.shop_ids()) == []
    assert pages < 0.8 * _ORDERS / 100, "what the killed runs had covered was read again"


async def test_what_an_interrupted_backfill_has_stored_is_not_read_again(
    bench: Bench, shops: Simulator, connection: asyncpg.Connection
) -> None:
    await shops.post("settings", latency_s=0.2)
    run = await bench.start("backfill")

    async def half_is_stored() -> bool:
        return bool(await connection.fetchval(_STORED) > _ORDERS / 2)

    await until(half_is_stored, "half of the orders are stored")
    run.send(signal.SIGINT)
    interrupted = await run.finish(within_s=25)
    assert interrupted.code == 130, interrupted.err
    await shops.post("settings", latency_s=0.0)
    await shops.post("stats/reset")
    resumed = await bench.shopsync("backfill")
    assert resumed.code == 0, resumed.err
    rest = await shops.requests()
    await shops.post("stats/reset")
    assert await compare(connection, shops.url, await shops.shop_ids()) == []
    await connection.execute("UPDATE sync.cursors SET covered = '{}', settled = '{}'")
    assert (await bench.shopsync("backfill")).code == 0
    full = await shops.requests()
    assert rest < 0.75 * full, (rest, full)


async def test_of_two_backfills_of_the_same_shops_one_waits_for_the_other(
    bench: Bench, shops: Simulator, connection: asyncpg.Connection
) -> None:
    runs = [await bench.start("backfill") for _ in range(2)]
    ends = [await run.finish() for run in runs]
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert await shops.worst_second() <= 50
    together = await connection.fetchval(
        "SELECT count(*) FROM sync.runs AS a JOIN sync.runs AS b ON a.shop_id = b.shop_id"
        "  AND a.run_id < b.run_id AND b.started_at < a.finished_at"
    )
    assert together == 0
    assert await connection.fetchval("SELECT count(*) FROM sync.runs WHERE outcome = 'complete'") == 6
    assert await compare(connection, shops.url, await shops.shop_ids()) == []
