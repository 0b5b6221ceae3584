"""Processes that are kept alive, and the nemesis that kills, stops, cuts off and restarts what it can."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from sync.simulator.server import RunningSimulator
from sync.store.pool import CONNECTION_LOSS
from tests.proxy import Moment, Proxy
from tests.soak.chaos_forge import Forge, Forged
from tests.soak.chaos_postgres import RESTARTS, RestlessPostgres
from tests.soak.chaos_witness import covered_and_missing

LEASE_LIFE_S = 3.0
PAGE_ROWS = 20
# What a process may end with by itself: all is done, or Postgres was away at the wrong moment.
_OWN_ENDS = (0, 1)
HOLDERS = """
SELECT shop_id, epoch, substring(holder FROM 'pid (\\d+)')::int AS pid FROM sync.leases
 WHERE expires_at > now()
"""
_AWAY = (*CONNECTION_LOSS, asyncpg.PostgresError)
# Most of what a worker sends is no COMMIT: with these chances, more than half of the cuts fall on one.
_CUT_SELDOM: Mapping[Moment, float] = {
    "after_commit": 0.1, "before_commit": 0.02, "after_statement": 0.002, "in_rows": 0.0001,
}  # fmt: skip
_CUT_OFTEN: Mapping[Moment, float] = {
    "after_commit": 0.5, "before_commit": 0.1, "after_statement": 0.01, "in_rows": 0.0005,
}  # fmt: skip
# How often a kill comes with a cut of the connections that leases live with.
_LEASE_CUTS = 0.02
_COMMANDS = (("backfill",), ("backfill", "--stream", "orders"), ("run", "--once"))


@dataclass(slots=True)
class Toll:
    """What was done to the product, and what was found wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    takeovers_s: list[float] = field(default_factory=list)
    stops: int = 0
    looks: int = 0
    starts: int = 0
    ends_s: list[float] = field(default_factory=list)
    requests: int = 0
    writes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Toll) -> None:
        self.kills += other.kills
        self.restarts += other.restarts
        self.cuts += other.cuts
        self.takeovers_s += other.takeovers_s
        self.stops += other.stops
        self.looks += other.looks
        self.starts += other.starts
        self.ends_s += other.ends_s
        self.requests += other.requests
        self.writes += other.writes
        self.problems += other.problems

    def is_enough(self, kills: int) -> bool:
        """So many kills, as many cuts, and one restart and one takeover for each ten of them."""
        return (
            min(self.kills.total(), self.cuts.total()) >= kills
            and min(self.restarts.total(), len(self.takeovers_s)) >= kills // 10
        )

    def __str__(self) -> str:
        cuts, after = self.cuts.total(), self.cuts["after_commit"]
        return (
            f"{self.kills.total()} kills ({_counts(self.kills)}), "
            f"{self.restarts.total()} restarts of Postgres ({_counts(self.restarts)}), "
            f"{cuts} cuts ({after} after COMMIT, {100 * after / max(cuts, 1):.0f} %), "
            f"{len(self.takeovers_s)} takeovers from {self.stops} stopped processes "
            f"({spread(self.takeovers_s)}), {self.looks} looks at the coverage, "
            f"{self.starts} starts, SIGTERM to end: {spread(self.ends_s)}, "
            f"{self.requests} requests, {self.writes} writes, {len(self.problems)} wrong"
        )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def quantile(seconds: Sequence[float], share: float) -> float:
    """What so many of them do not exceed."""
    return sorted(seconds)[round((len(seconds) - 1) * share)]


def spread(seconds: Sequence[float]) -> str:
    """The middle, the 99th of a hundred and the longest."""
    if not seconds:
        return "none"
    p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {max(seconds):.2f} s"


class Slot:
    """A place in which a process always runs: it is started again whenever it ends."""

    def __init__(
        self,
        name: str,
        forge: Forge,
        environment: Mapping[str, str],
        *,
        rng: random.Random,
        toll: Toll,
        database_is_up: asyncio.Event,
    ) -> None:
        self.name = name
        self.process: Forged | None = None
        self.is_stopped = False
        self.closed = asyncio.Event()
        self._forge = forge
        self._environment = environment
        self._rng = rng
        self._toll = toll
        self._database_is_up = database_is_up

    async def keep(self) -> None:
        """Returns once the slot was closed and its process has ended."""
        while not self.closed.is_set():
            # Without it each start would end at once, and the next one too.
            await self._database_is_up.wait()
            arguments = ("run",) if self.name.startswith("daemon") else self._rng.choice(_COMMANDS)
            self.process = await self._forge.start(
                *arguments,
                environment=self._environment,
                name=self.name,
                lease_life_s=LEASE_LIFE_S,
                page_rows=PAGE_ROWS,
            )
            self._toll.starts += 1
            if self.closed.is_set():  # It was closed meanwhile, and nobody told this one.
                self.process.send(signal.SIGKILL)
            await self.process.ended.wait()
            code = self.process.code
            if code not in (*_OWN_ENDS, -signal.SIGKILL) and not self.closed.is_set():
                self._toll.problems.append(f"{self.name} ended by itself with {code}: {self.process.err}")
            # As a service manager would, but that it takes less time.
            await asyncio.sleep(self._rng.uniform(0.0, 0.1 if code else 1.0))

    @property
    def can_be_hurt(self) -> bool:
        return self.process is not None and self.process.is_running and not self.is_stopped


class Nemesis:
    """Strikes at moments drawn from a seed until so many processes were killed."""

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        rng: random.Random,
        toll: Toll,
        postgres: RestlessPostgres,
        proxy: Proxy,
        simulator: RunningSimulator,
        database_url: str,
    ) -> None:
        self._slots = slots
        self._rng = rng
        self._toll = toll
        self._postgres = postgres
        self._proxy = proxy
        self._simulator = simulator
        self._database_url = database_url
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def rage(self, kills: int, *, pause_s: float) -> None:
        """So many processes were killed, and enough of the rest was done to them and to Postgres besides."""
        stopping = asyncio.create_task(self._stop_often(), name="the stopper")
        try:
            while not self._toll.is_enough(kills) and not self._toll.problems:
                # In bursts: between them there is time to get on, so that there is something to lose.
                share = 0.2 if self._rng.random() < 0.7 else 2.9
                await asyncio.sleep(self._rng.expovariate(1 / (share * pause_s)))
                if stopping.done():
                    await stopping
                is_behind = self._toll.restarts.total() * 9 < self._toll.kills.total()
                if self._rng.random() < (0.25 if is_behind else 0.03):
                    kind = self._rng.choice(RESTARTS)
                    self._toll.restarts[kind] += await self._postgres.restart(kind, self._rng)
                else:
                    await self._kill_one()
                self._toll.cuts = Counter(self._proxy.cuts)
                lacks_cuts = self._toll.cuts.total() < self._toll.kills.total()
                self._proxy.rule.chances = _CUT_OFTEN if lacks_cuts else _CUT_SELDOM
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            if self._connection is not None:
                self._connection.terminate()

    async def _kill_one(self) -> None:
        holders = {row["pid"] for row in await self._ask(HOLDERS)}
        living = [slot for slot in self._slots if slot.can_be_hurt]
        working = [slot for slot in living if slot.process and slot.process.pid in holders]
        if not living:
            return
        # Mostly whoever has a shop: the others are starting, ending or waiting.
        slot = self._rng.choice(working if working and self._rng.random() < 0.7 else living)
        assert slot.process is not None
        slot.process.send(signal.SIGKILL)
        if await slot.process.finish() == -signal.SIGKILL:
            self._toll.kills[slot.process.arguments[0]] += 1
        if self._rng.random() < _LEASE_CUTS:
            self._proxy.cut(application="shopsync leases")
        self._simulator.change_options(notify_url=self._rng.choice(self._addresses()))
        await self._look_at_coverage()

    def _addresses(self) -> list[str]:
        return [
            f"http://127.0.0.1:{slot._environment['SHOPSYNC_WEB__PORT']}/webhooks/tiktok"
            for slot in self._slots
            if slot.name.startswith("daemon")
        ]

    async def _look_at_coverage(self) -> None:
        shops = list(self._simulator.world.shops.values())
        # It may be restarted at this moment. There is a next time.
        with suppress(*_AWAY):
            async with self._connected() as connection:
                self._toll.problems += await covered_and_missing(connection, [self._rng.choice(shops)])
                self._toll.looks += 1

    async def _stop_often(self) -> None:
        """One process after the other is stopped for longer than its lease lives, then goes on."""
        while True:
            await asyncio.sleep(0.02)  # Leases are held for moments, and nobody tells which.
            held = await self._ask(HOLDERS)
            slots = {slot.process.pid: slot for slot in self._slots if slot.can_be_hurt and slot.process}
            found = [row for row in held if row["pid"] in slots]
            if not found:
                continue
            pid = self._rng.choice(found)["pid"]
            mine = {row["shop_id"]: row["epoch"] for row in found if row["pid"] == pid}
            await self._stop_one(slots[pid], mine)
            await asyncio.sleep(self._rng.uniform(0.0, 0.5))

    async def _stop_one(self, slot: Slot, mine: Mapping[str, int]) -> None:
        assert slot.process is not None
        slot.is_stopped = True
        slot.process.send(signal.SIGSTOP)
        began = time.monotonic()
        self._toll.stops += 1
        try:
            while time.monotonic() < began + 4 * LEASE_LIFE_S:
                await asyncio.sleep(0.05)  # Nobody tells who has taken a lease.
                for row in await self._ask(HOLDERS):
                    if row["pid"] != slot.process.pid and row["epoch"] > mine.get(
                        row["shop_id"], row["epoch"]
                    ):
                        self._toll.takeovers_s.append(time.monotonic() - began)
                        # It wakes up while the other one is in the middle of it.
                        await asyncio.sleep(self._rng.uniform(0.0, 0.3))
                        return
        finally:
            slot.process.send(signal.SIGCONT)
            slot.is_stopped = False

    async def _ask(self, question: str) -> list[asyncpg.Record]:
        with suppress(*_AWAY):
            async with self._connected() as connection:
                return list(await connection.fetch(question))
        return []

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection that cuts do not reach, for one question at a time."""
        await self._postgres.is_up.wait()
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._database_url)
            try:
                yield self._connection
            except _AWAY:
                self._connection.terminate()  # It may look open and be of no use.
                raise
