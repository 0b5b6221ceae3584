"""The short form of the kill harness in tests/soak, and that its witnesses see what they are there for."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tests.conftest import StartSimulator
from tests.integration.store_probe import SHOP
from tests.soak.chaos import play_all
from tests.soak.chaos_witness import covered_and_missing, hear_witness, install_witness
from tests.soak.ends import end_often
from tests.soak.leaks import Sample, judge

_KILLS = 100


async def test_a_hundred_kills_between_restarts_and_cuts_leave_a_true_copy() -> None:
    toll = await play_all(kills=_KILLS, per_run=50, seed=1, pause_s=0.4)
    assert toll.problems == []
    assert toll.kills.total() >= _KILLS
    # What does nothing loses nothing either.
    assert toll.writes > _KILLS
    assert toll.looks > 0
    assert toll.cuts["after_commit"] > 0
    assert toll.restarts.total() > 0


async def test_daemons_end_on_sigterm_and_are_replaced_after_a_kill(
    tmp_path: Path, database_url: str
) -> None:
    findings = await end_often(tmp_path, database_url, terms=10, kills=3, stops=0, seed=1, longest_life_s=1.0)
    assert findings.problems == []
    assert (len(findings.terms_s), len(findings.kills_s)) == (10, 3)


@pytest.mark.parametrize("quantity", ["memory_mib", "files", "tasks"])
def test_what_grows_to_the_end_is_a_leak_and_what_settles_is_none(quantity: str) -> None:
    def sample(value: int) -> Sample:
        return Sample(**{"memory_mib": 100, "files": 50, "tasks": 50, quantity: value})

    assert judge([sample(100 + place) for place in range(60)])[1] != []
    assert judge([sample(min(100 + place, 115)) for place in range(60)])[1] == []


@pytest.fixture
async def watched(connection: asyncpg.Connection) -> asyncpg.Connection:
    """The same connection, seen as process 1, which holds the shop in epoch 3."""
    await install_witness(connection)
    await connection.execute("SET application_name = 'shopsync pid 1'")
    await connection.execute(
        "INSERT INTO sync.leases (shop_id, owner, epoch, expires_at, holder)"
        " VALUES ($1, gen_random_uuid(), 3, now() + interval '1 minute', 'here pid 1')",
        SHOP,
    )
    return connection


async def write(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO tiktok.orders (shop_id, order_id, update_time, _raw, _fetched_at)"
        " VALUES ($1, '1', to_timestamp(100), '{}', now())"
        " ON CONFLICT (shop_id, order_id) DO UPDATE SET status = 'changed'",
        SHOP,
    )


async def test_a_holder_s_writes_are_in_order(watched: asyncpg.Connection) -> None:
    await write(watched)
    await watched.execute("UPDATE sync.leases SET epoch = 4")
    await write(watched)
    assert await watched.fetchval("SELECT count(*) FROM witness.writes") >= 2
    assert await hear_witness(watched) == []


async def test_a_write_by_a_process_that_was_overtaken_is_seen(watched: asyncpg.Connection) -> None:
    async with watched.transaction():
        await write(watched)
        await watched.execute("UPDATE sync.leases SET epoch = 4, holder = 'here pid 2'")
    assert any("while the shop was that of 2" in line for line in await hear_witness(watched))


async def test_a_write_under_an_older_epoch_is_seen(watched: asyncpg.Connection) -> None:
    await write(watched)
    await watched.execute("UPDATE sync.leases SET epoch = 2")
    await write(watched)
    assert any("epoch 2 after epoch 3" in line for line in await hear_witness(watched))


async def test_a_row_that_goes_back_is_seen(watched: asyncpg.Connection) -> None:
    await write(watched)
    await watched.execute("UPDATE tiktok.orders SET update_time = to_timestamp(99)")
    assert any("went back" in line for line in await hear_witness(watched))


async def test_coverage_ahead_of_its_rows_is_seen(
    connection: asyncpg.Connection, start_simulator: StartSimulator
) -> None:
    simulator = await start_simulator(orders_per_shop=3, products_per_shop=2, flash_sale_orders=0)
    (shop,) = simulator.world.shops.values()
    assert await covered_and_missing(connection, [shop]) == []
    await connection.execute(
        "INSERT INTO sync.cursors (shop_id, stream, settled)"
        " VALUES ($1, 'orders', tstzmultirange(tstzrange('-infinity', 'infinity')))",
        shop.shop_id,
    )
    assert len(await covered_and_missing(connection, [shop])) == 3
