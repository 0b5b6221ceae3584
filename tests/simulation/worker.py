"""One process of the product: the real daemon over the simulated clock, API and Postgres."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import asyncpg
import pytest

from sync.clock import ApiClock
from sync.engine import plan, reading, window_sync
from sync.engine.fleet import Fleet
from sync.engine.tools import Tools
from sync.jobs import local
from sync.jobs.local import LocalJobs
from sync.jobs.visits import Visits
from sync.store.cursors import Cursors
from sync.store.hints import Heard, Hints
from sync.store.leases import LeaseKeeper
from sync.store.pool import Database
from sync.store.proofs import Proofs
from sync.store.runs import Runs
from sync.store.shops import Shops
from sync.store.sink import Sink
from sync.streams.registry import STREAMS
from sync.tiktok.client import AppKeys, Client
from tests.memory_shop import page_size
from tests.simulation.api import Api, HttpSession
from tests.simulation.books import Books
from tests.simulation.pool import Pool
from tests.simulation.postgres import Server
from tests.simulation.scenario import Scenario
from tests.simulation.world import START_S, Machine, World

URL = "postgresql://memory/simulation"
LOOKBACK_S = 300
SETTLE_S = 5
_MOST_SUSPICIONS = 6
_TICK_S = 1.0
_LONGEST_SLEEP_S = 300.0
_HELD_S = 2.0


class Worker:
    """A process that keeps all shops up to date. It may be killed at any moment."""

    def __init__(self, machine: Machine, scenario: Scenario, *, api: Api, books: Books) -> None:
        self.machine = machine
        self._scenario = scenario
        self._api = api
        self._books = books
        self.bell: asyncio.Event | None = None
        self._stopping = asyncio.Event()
        self._hints: Hints | None = None
        self._visits: Visits | None = None
        machine.worker = self
        self.up_since = machine.world.now
        self.main = machine.start(self._run(), "main")

    def terminate(self) -> None:
        """As SIGTERM does: it ends by itself, and soon."""
        self.machine.loop.call_soon(self._stopping.set)

    def look_now(self) -> None:
        """The next second of its clock has just begun."""
        if self.bell is not None and self.machine.runs:
            self.machine.loop.call_soon(self.bell.set)

    def notify(self, heard: Heard) -> bool:
        """A notification has come; False when nobody is there to hear it."""
        if self._hints is None or self._visits is None or self.main.done():
            return False
        self.machine.start(self._hear(self._hints, self._visits, heard), "notification")
        return True

    async def _hear(self, hints: Hints, visits: Visits, heard: Heard) -> None:
        try:
            outcome = await hints.hear(heard)
        except Exception:  # noqa: BLE001 - TikTok Shop would send it again; here the rounds find it
            return
        if outcome == "hinted":
            visits.begin(heard.shop_id)

    async def _run(self) -> None:
        client = Client(api_url="https://api", auth_url="https://auth", clock=ApiClock())
        double: Any = HttpSession(self.machine, self._api)
        client._session = double
        app: Any = SimpleNamespace(keys=AppKeys("key", "secret"), client=client)
        credential = SimpleNamespace(access_token="token")
        tokens: Any = SimpleNamespace(
            current=_always(credential),
            newest=lambda _: credential,
            kept=lambda _: nullcontext(),
        )
        apps: Any = SimpleNamespace(get=lambda _: app)
        scenario = self._scenario
        async with Database(URL, size=4) as database, LeaseKeeper(URL) as leases:
            cursors, hints = Cursors(database), Hints(database)
            vault: Any = None
            tools = Tools(
                settings=_settings(scenario),
                database=database,
                sink=Sink(database),
                cursors=cursors,
                hints=hints,
                proofs=Proofs(database),
                runs=Runs(database),
                shops=Shops(database, vault),
            )
            fleet = Fleet(tools=tools, apps=apps, tokens=tokens, leases=leases)
            self._hints, self._visits = hints, Visits(fleet=fleet, hints=hints, round_s=0)
            jobs = LocalJobs(
                fleet=fleet, cursors=cursors, streams=tuple(STREAMS), most_at_once=scenario.parallel_shops,
                visits=self._visits,
            )  # fmt: skip
            await cursors.retry_failed()
            await jobs.run(self._stopping)

    def next_due_s(self) -> float:
        """How long nothing can be due. The daemon looks every second; those looks find nothing."""
        now, books = self.machine.world.now, self._books
        due = now + _LONGEST_SLEEP_S
        for (shop_id, _), cursor in books.cursors.items():
            if cursor.due_at < due:
                lease = books.leases.get(shop_id)
                is_held = lease is not None and lease.expires_at > now and not lease.session.is_lost
                due = min(due, max(cursor.due_at, now + _HELD_S) if is_held else cursor.due_at)
        for hint in books.hints.values():
            due = min(due, hint.due_at)
        return max(_TICK_S, float(-(-(due - now) // _TICK_S)))


def _always(answer: Any) -> Callable[[Any], Any]:
    async def give(_: Any) -> Any:
        return answer

    return give


def _settings(scenario: Scenario) -> Any:
    return SimpleNamespace(
        parallel_shops=scenario.parallel_shops,
        parallel_slices=scenario.parallel_slices,
        requests_per_second=50,
        lookback_s=LOOKBACK_S,
        settle_s=SETTLE_S,
        intervals=SimpleNamespace(of=scenario.intervals_s.__getitem__),
        history_start=datetime.fromtimestamp(START_S - scenario.history_s - 3600, UTC),
    )


class _Clock:
    """The module ``time`` of a simulated process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    def time(self) -> float:
        machine = self._world.current
        return self._world.epoch_s + (0.0 if machine is None else machine.wall_offset_s)


class _Silent:
    """A log that nobody reads, unless the run is watched."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, level: str) -> Callable[..., None]:
        return self._note

    def _note(self, event: str, **facts: Any) -> None:
        machine = self._world.current
        if machine is not None and machine.is_dead:
            return
        if event in ("sync_crashed", "scheduler_failed"):
            # The outermost loops catch everything: what ends up there is a fault of the product.
            error = sys.exc_info()[1]
            self._world.violations.append(f"{event} of {facts.get('shop_id')}: {error!r}")
        if self._world.trace is not None:
            name = "?" if machine is None else machine.name
            self._world.trace(f"{self._world.now:.6f}   {name} logs {event} {facts}")


@contextmanager
def simulated(world: World, server: Server, scenario: Scenario) -> Iterator[None]:
    """The product's clock, chance, log and Postgres are those of the run."""
    rng = random.Random(f"product {scenario.seed}")
    clock, log = _Clock(world), _Silent(world)
    uuids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=rng.getrandbits(128)), UUID=uuid.UUID)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("sync."):
                _replace(patch, module, clock=clock, rng=rng, log=log)
        patch.setattr("sync.store.leases.uuid", uuids)
        patch.setattr("sync.engine.slice_sync.utc_now", world.clock)
        patch.setattr(local, "ringing", lambda bell, *, every_s: _ringing(bell))
        patch.setattr(asyncpg, "connect", _connect_to(server))
        patch.setattr(asyncpg, "create_pool", _pool_of(server))
        patch.setattr(plan, "LEAF_ROWS", scenario.leaf_rows)
        patch.setattr(reading, "_WORTH_SPLITTING", scenario.worth_splitting)
        patch.setattr(window_sync, "_MOST_SUSPICIONS", _MOST_SUSPICIONS)
        for stream in ("orders", "products"):
            patch.setitem(STREAMS, stream, page_size(stream, scenario.page_size))
        yield


def _replace(patch: pytest.MonkeyPatch, module: ModuleType, *, clock: Any, rng: Any, log: Any) -> None:
    if getattr(module, "time", None) is time:
        patch.setattr(module, "time", clock)
    if getattr(module, "random", None) is random:
        patch.setattr(module, "random", rng)
    if hasattr(module, "log") and hasattr(module, "structlog"):
        patch.setattr(module, "log", log)


def _connect_to(server: Server) -> Callable[..., Any]:
    async def connect(_url: str, **_: Any) -> Any:
        loop: Any = asyncio.get_running_loop()
        machine: Machine = loop.machine
        return await machine.ask(lambda: server.connect(machine), there_s=0.002, back_s=0.002)

    return connect


def _pool_of(server: Server) -> Callable[..., Any]:
    async def create_pool(_url: str, *, max_size: int, **_: Any) -> Pool:
        loop: Any = asyncio.get_running_loop()
        if not server.is_up:
            raise ConnectionRefusedError("the server is down")
        return Pool(server, loop.machine, max_size)

    return create_pool


@contextmanager
def _ringing(bell: asyncio.Event) -> Iterator[None]:
    """The daemon's clock, but for the seconds in which nothing is due."""
    loop: Any = asyncio.get_running_loop()
    worker: Worker = loop.machine.worker
    worker.bell = bell

    async def ring() -> None:
        while True:
            bell.set()
            await asyncio.sleep(worker.next_due_s())

    task = asyncio.create_task(ring(), name="clock")
    try:
        yield
    finally:
        task.cancel()
