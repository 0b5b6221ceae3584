"""``shopsync run`` keeps the copy true and heeds what other commands say meanwhile."""

from __future__ import annotations

import signal

import aiohttp
import asyncpg

from sync.simulator.server import RunningSimulator
from sync.simulator.shops import Shop
from tests.acceptance.processes import Bench, Process, page_of, until
from tests.oracle import compare


async def becomes_true(
    connection: asyncpg.Connection, simulator: RunningSimulator, shop_ids: list[str], *, within_s: float = 40
) -> None:
    """The copy of these shops equals the truth before long."""

    async def holds() -> bool:
        return await compare(connection, simulator.url, shop_ids) == []

    await until(holds, "the copy is true", within_s=within_s, every_s=0.5)


async def end(daemon: Process) -> None:
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=25)).code == 0


async def test_one_round_for_cron_reads_every_stream_even_when_none_is_due(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE sync.cursors SET due_at = now() + interval '1 hour'")
    finished = await connected.shopsync("run", "--once")
    assert finished.code == 0, finished.err
    assert await compare(connection, simulator.url, simulator.world.shops) == []


async def test_the_daemon_stores_what_changes(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    shop = next(iter(simulator.world.shops.values()))
    daemon = await connected.start("run")
    await becomes_true(connection, simulator, list(simulator.world.shops))
    shrunk, gone_sku = change_everything(simulator, shop)
    await becomes_true(connection, simulator, list(simulator.world.shops))
    assert await connection.fetchval(
        "SELECT _deleted_at IS NOT NULL FROM tiktok.skus WHERE product_id = $1 AND sku_id = $2",
        shrunk,
        gone_sku,
    )
    deleted = await connection.fetchval("SELECT count(*) FROM tiktok.products WHERE _deleted_at IS NOT NULL")
    assert deleted >= 1
    moves = await connection.fetchval(
        "SELECT count(*) FROM tiktok.inventory_history WHERE valid_to IS NOT NULL"
    )
    assert moves >= 1
    await end(daemon)


def change_everything(simulator: RunningSimulator, shop: Shop) -> tuple[str, str]:
    """An order, a stock level, a product and a SKU of the shop have changed; the product and its lost SKU."""
    mutations = simulator.simulation.mutations
    assert mutations.place_order(shop)
    assert mutations.advance_order(shop)
    assert mutations.move_stock(shop)
    assert mutations.delete_product(shop)
    before = {sku.id: product.id for product in shop.products.values() for sku in product.skus}
    after = before
    while len(after) >= len(before):
        before = after
        assert mutations.change_skus(shop)
        after = {sku.id: product.id for product in shop.products.values() for sku in product.skus}
    (sku_id,) = before.keys() - after.keys()
    return str(before[sku_id]), str(sku_id)


async def test_the_daemon_tells_that_it_lives_and_is_ready(connected: Bench) -> None:
    daemon = await connected.start("run")
    url = await page_of(daemon)
    async with aiohttp.ClientSession() as session:

        async def answers(path: str) -> bool:
            async with session.get(url + path) as response:
                return response.status == 200

        assert await answers("/healthz")
        await until(lambda: answers("/readyz"), "the daemon is ready")
        assert await answers("/")
        assert await answers("/metrics")
    await end(daemon)


async def test_shops_are_connected_paused_and_disconnected_while_the_daemon_runs(
    bench: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    first = next(iter(simulator.world.shops.values()))
    daemon = await bench.start("run")
    await page_of(daemon)
    for seller in simulator.sellers():
        assert (await bench.shopsync("shops", "connect", "--code", seller.code)).code == 0
    shops = list(simulator.world.shops)
    await becomes_true(connection, simulator, shops)
    second = next(shop for shop in shops if shop != first.shop_id)

    assert (await bench.shopsync("shops", "pause", first.shop_id)).code == 0
    await rounds_pass(connection, second)
    asked = simulator.simulation.meter.of(first.shop_id).requests
    await rounds_pass(connection, second)
    assert simulator.simulation.meter.of(first.shop_id).requests == asked

    simulator.simulation.mutations.place_order(first)
    assert (await bench.shopsync("shops", "resume", first.shop_id)).code == 0
    await becomes_true(connection, simulator, shops)

    assert (await bench.shopsync("shops", "disconnect", first.shop_id)).code == 0
    await rounds_pass(connection, second)
    asked = simulator.simulation.meter.of(first.shop_id).requests
    await rounds_pass(connection, second)
    assert simulator.simulation.meter.of(first.shop_id).requests == asked
    kept = await connection.fetchval("SELECT count(*) FROM tiktok.orders WHERE shop_id = $1", first.shop_id)
    assert kept == len(first.orders.newest)
    await end(daemon)


async def rounds_pass(connection: asyncpg.Connection, shop_id: str) -> None:
    """The daemon has begun and ended a round of this shop since the call."""
    began = await connection.fetchval("SELECT clock_timestamp()")

    async def holds() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT count(*) >= 1 FROM sync.cursors"
                " WHERE shop_id = $2 AND attempted_at > $1 AND succeeded_at > attempted_at",
                began,
                shop_id,
            )
        )

    await until(holds, "another round")
