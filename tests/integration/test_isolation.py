"""Half of the shops fail in every way; the other half must not notice. Real application, real Postgres."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import asyncpg
import msgspec
import pytest

from sync.app import App
from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.jobs.local import LocalJobs
from sync.simulator.fault_registry import FAULTS
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator
from sync.streams.registry import STREAMS
from tests.conftest import StartSimulator
from tests.integration.hazards import shop_ids, sync_all, wait_until_true
from tests.oracle import compare
from tests.support import connected_app, make_settings

_PATIENCE_S = 60
_SEARCH = "/search"
# What never ends by itself within a test, and what ends the shop's sync at once or soon.
_LASTING: tuple[dict[str, Any], ...] = (
    {"fault": "hang"},
    {"fault": "rate_limited", "retry_after": "30"},
    {"fault": "internal_error", "http": 500},
    {"fault": "unavailable_html"},
    {"fault": "truncated_body"},
    {"fault": "reset_mid_body"},
    {"fault": "slow_drip", "pause_s": 1.0},
)
_ENDING: tuple[dict[str, Any], ...] = (
    {"fault": "repeated_token", "path": _SEARCH},
    {"fault": "revoked"},
    {"fault": "shop_inactive"},
)
_ARE_READ = "SELECT bool_and(succeeded_at IS NOT NULL) FROM sync.cursors WHERE shop_id = ANY ($1)"
_POISON = tuple(name for name, fault in FAULTS.items() if fault.kind == "record")


def _break_half(simulator: RunningSimulator, shops: list[str]) -> dict[str, dict[str, Any]]:
    """Every second shop fails, each in its own way; what is wrong with which."""
    wrong = dict(zip(shops[::2], itertools.chain(_LASTING, _ENDING), strict=True))
    for shop_id, fault in wrong.items():
        simulator.simulation.faults.add({**fault, "shop_id": shop_id})
    return wrong


async def _one_round(app: App) -> None:
    await sync_all(app)


class _Fleet:
    """A round of every shop under way."""

    def __init__(self, app: App, shops: list[str]) -> None:
        self._requests = [SyncRequest(shop_id, tuple(STREAMS), "test", passes=4) for shop_id in shops]
        self._tasks: dict[str, asyncio.Task[RunReport]] = {
            request.shop_id: asyncio.create_task(app.fleet.sync(request, report=new_report(request)))
            for request in self._requests
        }

    async def wait_for(self, shops: list[str]) -> list[RunReport]:
        """What became of these, however the others fare."""
        return await asyncio.wait_for(asyncio.gather(*(self._tasks[one] for one in shops)), _PATIENCE_S)

    def running(self) -> set[str]:
        return {shop_id for shop_id, task in self._tasks.items() if not task.done()}

    async def cut_short(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def test_healthy_shops_are_complete_while_the_others_still_fail(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    count = 2 * len(_LASTING + _ENDING)
    simulator = await start_simulator(
        shops=count, orders_per_shop=60, products_per_shop=5, options=SimulatorOptions(latency_s=0.02)
    )
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        shops = await shop_ids(app)
        healthy = shops[1::2]
        wrong = _break_half(simulator, shops)
        fleet = _Fleet(app, shops)
        try:
            reports = await fleet.wait_for(healthy)
            failing = fleet.running()
        finally:
            await fleet.cut_short()
    assert {report.outcome for report in reports} == {"complete"}
    # Nobody waited for them: they are at it still.
    assert failing >= {shop for shop, fault in wrong.items() if fault in _LASTING}
    assert await compare(connection, simulator.url, healthy) == []


@pytest.mark.parametrize("runs_as", ["a command", "the daemon"])
async def test_shops_that_hang_on_every_seat_lend_them_to_those_that_wait(
    start_simulator: StartSimulator, database_url: str, monkeypatch: pytest.MonkeyPatch, runs_as: str
) -> None:
    monkeypatch.setattr("sync.engine.api._STALLED_S", 0.2)
    monkeypatch.setattr("sync.engine.seats._LOOK_EVERY_S", 0.1)
    simulator = await start_simulator(shops=4, orders_per_shop=20, products_per_shop=3)
    settings = make_settings(database_url, simulator, parallel_shops=2)
    async with connected_app(settings, simulator) as app:
        shops = await shop_ids(app)
        hanging, waiting = shops[:2], shops[2:]
        rules = [simulator.simulation.faults.add({"fault": "hang", "shop_id": one}) for one in hanging]
        if runs_as == "the daemon":
            jobs = LocalJobs(
                fleet=app.fleet, cursors=app.store.cursors, streams=tuple(STREAMS), tick_s=0.1, most_at_once=2
            )
            work = asyncio.create_task(jobs.run(asyncio.Event()))
        else:
            work = asyncio.create_task(_one_round(app))
        connection = await asyncpg.connect(database_url)
        try:
            await wait_until_true(connection, _ARE_READ, waiting)
            assert not work.done()
            assert [rule.struck > 0 for rule in rules] == [True, True]
            assert not await connection.fetchval(_ARE_READ, hanging)
        finally:
            await connection.close()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def test_a_shop_with_a_poisoned_page_keeps_all_that_is_sound_of_it(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(orders_per_shop=100)
    (shop,) = simulator.world.shops.values()
    orders = sorted(msgspec.json.decode(body)["id"] for body in shop.orders.bodies())
    poisoned = dict(zip(_POISON, orders[::7], strict=False))
    for fault, order_id in poisoned.items():
        simulator.simulation.faults.add({"fault": fault, "id": order_id, "path": "/orders/search"})
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        (report,) = await asyncio.wait_for(sync_all(app, streams=("orders",)), _PATIENCE_S)
    stored = {row[0] for row in await connection.fetch("SELECT order_id FROM tiktok.orders")}
    set_aside = {row[0] for row in await connection.fetch("SELECT record_id FROM sync.rejects")}
    assert set(orders) - set(poisoned.values()) <= stored
    # A record without an id is set aside under its digest, and cannot be told from others.
    nameless = {poisoned["record_without_id"]}
    assert set(orders) - nameless <= stored | set_aside
    assert set_aside & set(orders) - nameless
    assert report.outcome == "incomplete"
    assert await connection.fetchval(
        "SELECT count(*) FROM sync.cursors WHERE stream = 'orders' AND covered <> '{}'"
    )
