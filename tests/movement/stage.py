"""Where seeded runs are played: one database, one simulator, one worker, a new shop for each run."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from sync.app import App, open_app
from sync.engine import plan, reading, shop_sync, stream_sync, window_sync
from sync.engine.requests import RunReport, SyncRequest
from sync.engine.stream_sync import Pace, StreamSync
from sync.settings import Settings
from sync.simulator.identifiers import Identifiers
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.shops import Shop
from sync.simulator.world import World, build_world
from sync.streams.registry import STREAMS
from sync.tiktok import client
from tests.movement.mover import START, Clock, Interference, Mover, reshape
from tests.movement.scenario import LOOKBACK_S, Scenario
from tests.oracle import compare
from tests.support import execute, make_settings, with_database

_TABLES = (
    "tiktok.orders", "tiktok.order_line_items", "tiktok.products", "tiktok.skus", "tiktok.inventory",
    "tiktok.inventory_history", "tiktok.warehouses", "tiktok.shops", "sync.slices", "sync.runs",
    "sync.cursors", "sync.rejects", "sync.leases", "sync.shops", "sync.credentials", "public.went_back",
)  # fmt: skip
# Notes every row that went back to an older version, though only for a moment.
_WITNESS = """
CREATE TABLE public.went_back (id text, had timestamptz, got timestamptz);
CREATE FUNCTION public.note_step_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.went_back
    VALUES (to_jsonb(OLD) ->> TG_ARGV[0], OLD.update_time, NEW.update_time);
    RETURN NEW;
END $$;
CREATE TRIGGER witness BEFORE UPDATE ON tiktok.orders FOR EACH ROW
    WHEN (NEW.update_time < OLD.update_time) EXECUTE FUNCTION public.note_step_back('order_id');
CREATE TRIGGER witness BEFORE UPDATE ON tiktok.products FOR EACH ROW
    WHEN (NEW.update_time < OLD.update_time) EXECUTE FUNCTION public.note_step_back('product_id');
"""
_POLL_S = 0.01
_PATIENCE_S = 60
_MOST_SUSPICIONS = 8
_LONG_S = 50 * 365 * 86_400


class Stage:
    """Plays runs one after the other."""

    def __init__(
        self,
        simulator: RunningSimulator,
        connection: asyncpg.Connection,
        app: App,
        *,
        clock: Clock,
    ) -> None:
        self.simulator = simulator
        self.connection = connection
        self._app = app
        self.clock = clock

    async def set_up(self, scenario: Scenario) -> Run:
        """A shop with a history, connected; nothing of it is read yet."""
        for table in _TABLES:
            await self.connection.execute(f"DELETE FROM {table}")
        self.clock.advance(START - self.clock.time())
        world = build_world(
            seed=scenario.seed,
            shops=1,
            orders_per_shop=scenario.orders,
            products_per_shop=scenario.products,
            history_days=scenario.days,
            flash_sale_orders=0,
            now=self.clock.time() - 60,
        )
        (shop,) = world.shops.values()
        reshape(shop, scenario, clock=self.clock)
        mover = self._perform(world, shop, scenario)
        (consent,) = self.simulator.simulation.accounts.consents.values()
        await self._app.onboarding.connect(next(iter(consent.codes)), app="default")
        return Run(self, self._app, shop, scenario, mover)

    def _perform(self, world: World, shop: Shop, scenario: Scenario) -> Mover:
        simulation = self.simulator.simulation
        simulation.world = world
        simulation.rng = random.Random(f"server {scenario.seed}")
        simulation.pager = dataclasses.replace(simulation.pager, rng=random.Random(f"pages {scenario.seed}"))
        simulation.options = simulation.options.changed(
            {"paging": scenario.paging, "visibility_lag_s": scenario.lag_s}
        )
        simulation.__post_init__()
        mover = Mover(simulation, shop, scenario, clock=self.clock)
        simulation.faults = Interference(
            random.Random(f"faults {scenario.seed}"), before=mover.meet, holds_counts=scenario.holds_counts
        )
        return mover


class Run:
    """One scenario under way."""

    def __init__(self, stage: Stage, app: App, shop: Shop, scenario: Scenario, mover: Mover) -> None:
        self._stage = stage
        self._app = app
        self.shop = shop
        self._scenario = scenario
        self.mover = mover

    async def sync(self, *, kill_after: int | None = None) -> RunReport | None:
        """One round as a daemon makes it; None when it was cancelled after so many requests.

        Raises TimeoutError when it does not end.
        """
        request = SyncRequest(self.shop.shop_id, tuple(STREAMS), "test")
        with _reduced(self._scenario, clock=self._stage.clock):
            task = asyncio.create_task(self._app.fleet.sync(request))
            if kill_after is not None:
                self.mover.on_request = _killer(task, kill_after)
            try:
                await asyncio.wait_for(asyncio.wait([task]), _PATIENCE_S)
            finally:
                self.mover.on_request = None
                task.cancel()
        return None if task.cancelled() else task.result()

    async def play(self) -> list[str]:
        """What is wrong with the copy after the rounds of the scenario and a quiet one."""
        scenario = self._scenario
        for fault in scenario.faults:
            self._stage.simulator.simulation.faults.add(dict(fault))
        for number in range(scenario.rounds):
            await self.sync(kill_after=None if number else scenario.kill_after)
            self.mover.stir(5)
            self._stage.clock.advance(scenario.tick_s)
        return await self.judge()

    async def judge(self) -> list[str]:
        """What is wrong with the copy, line by line, after a round in which nothing moves or fails."""
        self.mover.is_moving = False
        faults = self._stage.simulator.simulation.faults
        faults.remove()
        if isinstance(faults, Interference):
            faults.holds_counts = False
        self._stage.clock.advance(LOOKBACK_S + 2)
        report = await self.sync()
        wrong = []
        if report is None or report.outcome != "complete":
            wrong.append(f"the quiet round ended as {report}")
        went_back = await self._stage.connection.fetch("SELECT * FROM public.went_back")
        wrong += [f"{row['id']} went back from {row['had']} to {row['got']}" for row in went_back]
        return wrong + await compare(self._stage.connection, self._stage.simulator.url, [self.shop.shop_id])


def _killer(task: asyncio.Task[RunReport], requests: int) -> Any:
    left = requests

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    return count


@contextmanager
def _reduced(scenario: Scenario, *, clock: Clock) -> Iterator[None]:
    """Sizes and times of the engine are the scenario's."""
    wait = StreamSync._wait

    async def wait_briefly(
        self: StreamSync, event: asyncio.Event, *, until: float | None, **room: Any
    ) -> None:
        # The clock rings for nobody: whoever waits for a moment looks at it now and then.
        moment = None if until is None else min(until, clock.monotonic() + _POLL_S)
        await wait(self, event, until=moment, **room)

    def set_pace(**pace: Any) -> Pace:
        return Pace(**{**pace, "interval_s": scenario.interval_s, "parallel": scenario.parallel})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop_sync, "Pace", set_pace)
        patch.setattr(plan, "LEAF_ROWS", scenario.leaf_rows)
        patch.setattr(reading, "_WORTH_SPLITTING", scenario.worth_splitting)
        patch.setattr(window_sync, "_MOST_SUSPICIONS", _MOST_SUSPICIONS)
        patch.setattr(stream_sync, "time", SimpleNamespace(monotonic=clock.monotonic))
        patch.setattr(StreamSync, "_wait", wait_briefly)
        patch.setattr(client, "_FIRST_WAIT_S", 0.002)
        for name in ("orders", "products"):
            patch.setitem(STREAMS, name, dataclasses.replace(STREAMS[name], page_size=scenario.page_size))
        yield


def _settings(database_url: str, simulator: RunningSimulator) -> Settings:
    return make_settings(
        database_url,
        simulator,
        requests_per_second=1000,
        settle_s=0,
        lookback_s=LOOKBACK_S,
        database_pool_size=2,
    )


@asynccontextmanager
async def open_stage(database_url: str) -> AsyncIterator[Stage]:
    """A stage on a database of its own."""
    clock, rng = Clock(), random.Random(0)
    async with AsyncExitStack() as stack:
        options = SimulatorOptions(limit_per_s=0, access_token_life_s=_LONG_S, refresh_token_life_s=_LONG_S)
        simulator = await serve(World(rng, Identifiers(rng)), options=options, clock=clock.time)
        stack.push_async_callback(simulator.close)
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "sync_strict"})
        stack.push_async_callback(connection.close)
        await connection.execute(_WITNESS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sync.tiktok.apps.ApiClock", lambda: clock)
            app = await stack.enter_async_context(open_app(_settings(database_url, simulator)))
        yield Stage(simulator, connection, app, clock=clock)


@asynccontextmanager
async def open_own_stage(server_url: str, template: str) -> AsyncIterator[Stage]:
    """A stage on a copy of the template, for the tests of a whole file."""
    name = f"shopsync_test_{uuid.uuid4().hex[:12]}"
    await execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    async with open_stage(with_database(server_url, name)) as stage:
        yield stage
    await execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
