"""Lost, doubled or never told: the copy is true at last, by the rounds and the slow round."""

from __future__ import annotations

import asyncpg

from sync.simulator.lifecycle import OPEN_STATES
from tests.conftest import StartSimulator
from tests.integration.notified import BRISK, differences, quiet_settings, telling_daemon, until


async def test_whatever_happens_and_however_it_is_told_the_copy_is_true_at_last(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    """Lost, doubled and out of order: rounds find what no notification named."""
    simulator = await start_simulator()
    settings = quiet_settings(database_url, simulator, intervals=BRISK)
    async with telling_daemon(settings, simulator) as teller:
        simulator.change_options(
            notify_url=f"{teller.url}/webhooks/tiktok",
            notify_loss=0.3, notify_duplicates=0.3, notify_disorder_s=1.0, silent_edits=10,
        )  # fmt: skip
        await simulator.simulation.mutator.set_rate(60)

        async def made_so_far() -> int:
            return simulator.simulation.mutations.counts.total()

        await until(made_so_far, lambda made: made >= 240)
        await simulator.simulation.mutator.set_rate(0)
        # Silent edits that were never told of are for the slow round, which is off here.
        for order_id in teller.shop.orders.newest:
            await teller.tell(3, {"order_id": str(order_id)})
        await until(lambda: differences(connection, teller), lambda found: found == [], within_s=40)
    found = await connection.fetchval(
        "SELECT count(*) FROM sync.runs WHERE outcome NOT IN ('complete', 'stopped')"
    )
    assert found == 0


async def test_without_a_single_notification_the_rounds_find_everything(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    settings = quiet_settings(database_url, simulator, intervals=BRISK)
    async with telling_daemon(settings, simulator) as teller:
        simulator.change_options(notify_url=f"{teller.url}/webhooks/tiktok", notify_loss=1.0)
        for _ in range(60):
            simulator.simulation.mutations.mutate()
        await until(lambda: differences(connection, teller), lambda found: found == [], within_s=40)
    assert await connection.fetchval("SELECT count(*) FROM sync.notifications") == 0


async def test_open_orders_are_read_again_and_silent_edits_are_found(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator()
    settings = quiet_settings(database_url, simulator, reread_open_orders_s=8)
    async with telling_daemon(settings, simulator) as teller:
        edited = [row.id for row in teller.shop.orders.newest.values() if row.status in OPEN_STATES]
        for order_id in edited:
            teller.edit(order_id, buyer_message="ring twice")
        count = "SELECT count(*) FROM tiktok.orders WHERE buyer_message = 'ring twice'"
        await until(lambda: connection.fetchval(count), lambda found: found == len(edited), within_s=40)
        last = "SELECT last_round_orders FROM sync.rereads"
        await until(lambda: connection.fetchval(last), lambda orders: orders == len(edited), within_s=40)
