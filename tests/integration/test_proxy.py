"""The wire that breaks on demand, tried on a real Postgres: each break is what it says."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from sync.store.pool import CONNECTION_LOSS
from tests.conftest import StartSimulator
from tests.oracle import fetch_truth
from tests.proxy import CutRule, Moment, http_proxy, postgres_proxy

_PATIENCE_S = 20


async def _commit(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("CREATE TABLE kept ()")
    finally:
        connection.terminate()


@pytest.mark.parametrize(("moment", "is_kept"), [("before_commit", False), ("after_commit", True)])
async def test_a_cut_at_the_commit_is_known_to_have_come_before_or_after_it(
    empty_database_url: str, moment: Moment, is_kept: bool
) -> None:
    async with postgres_proxy(empty_database_url, CutRule(nth={moment: [1]})) as proxy:
        with pytest.raises(CONNECTION_LOSS):
            await _commit(proxy.url)
        assert proxy.cuts == {moment: 1}
        connection = await asyncpg.connect(proxy.url)
        assert (await connection.fetchval("SELECT to_regclass('kept') IS NOT NULL")) is is_kept
        await connection.close()


async def test_a_cut_in_the_rows_leaves_the_client_without_the_rest(empty_database_url: str) -> None:
    rule = CutRule(nth={"in_rows": [500]}, application="victim")
    async with postgres_proxy(empty_database_url, rule) as proxy:
        victim = await asyncpg.connect(proxy.url, server_settings={"application_name": "victim"})
        bystander = await asyncpg.connect(proxy.url)
        with pytest.raises(CONNECTION_LOSS):
            await victim.fetch("SELECT generate_series(1, 1000)")
        assert proxy.cuts == {"in_rows": 1}
        assert len(await bystander.fetch("SELECT generate_series(1, 1000)")) == 1000
        await bystander.close()


async def test_a_cut_after_a_statement_leaves_it_done_and_unheard_of(empty_database_url: str) -> None:
    async with postgres_proxy(empty_database_url, CutRule(nth={"after_statement": [1]})) as proxy:
        victim = await asyncpg.connect(proxy.url)
        with pytest.raises(CONNECTION_LOSS):
            await victim.execute("CREATE TABLE kept ()")
        assert proxy.cuts == {"after_statement": 1}
        connection = await asyncpg.connect(proxy.url)
        assert await connection.fetchval("SELECT to_regclass('kept') IS NOT NULL")
        await connection.close()


def test_the_same_seed_draws_the_same_cuts_whatever_else_is_drawn() -> None:
    one, other = (CutRule(seed=5, chances={"after_commit": 0.3, "in_rows": 0.5}) for _ in range(2))
    alone = [one.strikes("after_commit", "") for _ in range(50)]
    mixed = [(other.strikes("in_rows", ""), other.strikes("after_commit", ""))[1] for _ in range(50)]
    assert alone == mixed
    assert 5 < sum(alone) < 25


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_by_hand_ends_the_chosen_connections_only(empty_database_url: str, reset: bool) -> None:
    async with postgres_proxy(empty_database_url) as proxy:
        kept = await asyncpg.connect(proxy.url)
        victim = await asyncpg.connect(proxy.url, server_settings={"application_name": "victim"})
        asking = asyncio.create_task(victim.fetchval("SELECT pg_sleep(60)"))
        await _wait_for_sleeper(kept)
        assert proxy.cut(reset=reset, application="victim") == 1
        with pytest.raises(CONNECTION_LOSS):
            await asyncio.wait_for(asking, _PATIENCE_S)
        assert await kept.fetchval("SELECT 1") == 1
        assert (proxy.made, proxy.open_links) == (2, 1)
        await kept.close()


async def _wait_for_sleeper(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
        ):
            await asyncio.sleep(0.01)


async def test_on_a_held_link_nothing_moves_until_it_is_let_go(empty_database_url: str) -> None:
    async with postgres_proxy(empty_database_url) as proxy:
        connection = await asyncpg.connect(proxy.url)
        proxy.hold()
        asking = asyncio.create_task(connection.fetchval("SELECT 41 + 1"))
        joining = asyncio.create_task(asyncpg.connect(proxy.url))
        async with asyncio.timeout(_PATIENCE_S):
            while proxy.made < 2:
                await asyncio.sleep(0.01)
        assert not asking.done()
        assert not joining.done()
        proxy.let_go()
        assert await asyncio.wait_for(asking, _PATIENCE_S) == 42
        await (await asyncio.wait_for(joining, _PATIENCE_S)).close()
        await connection.close()


async def test_a_refusing_proxy_makes_no_connection(empty_database_url: str) -> None:
    async with postgres_proxy(empty_database_url) as proxy:
        proxy.is_refusing = True
        with pytest.raises(CONNECTION_LOSS):
            await asyncpg.connect(proxy.url, timeout=_PATIENCE_S)
        proxy.is_refusing = False
        await (await asyncpg.connect(proxy.url)).close()


async def test_late_and_tiny_segments_carry_the_same_bytes(
    start_simulator: StartSimulator, empty_database_url: str
) -> None:
    async with postgres_proxy(empty_database_url) as proxy:
        proxy.segment_bytes, proxy.delay_s = 3, 0.001
        connection = await asyncpg.connect(proxy.url)
        assert await connection.fetchval("SELECT repeat('é', $1)", 500) == "é" * 500
        await connection.close()
    simulator = await start_simulator(orders_per_shop=5)
    (shop_id,) = simulator.world.shops
    async with http_proxy(simulator.url) as proxy:
        proxy.segment_bytes = 7
        through = await fetch_truth(proxy.url, shop_id, "orders")
    assert through == await fetch_truth(simulator.url, shop_id, "orders")
