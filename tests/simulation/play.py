"""One run: shops that move, processes that are killed and stopped, and a quiet end."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sync.errors import SyncError
from sync.store.hints import Heard
from sync.streams.registry import STREAMS
from tests.simulation.api import Api
from tests.simulation.books import Books
from tests.simulation.judge import Judge
from tests.simulation.moves import Mover
from tests.simulation.notes import Notes
from tests.simulation.postgres import Server
from tests.simulation.rows import CursorRow, Row
from tests.simulation.scenario import Scenario
from tests.simulation.seller import Seller
from tests.simulation.statements import statements
from tests.simulation.tables import Tables
from tests.simulation.worker import LOOKBACK_S, Worker, simulated
from tests.simulation.world import Machine, Violation, World

_HOUR_S = 3600.0
_LONGEST_COUNTDOWN = 3000
_LOOK_S = 300.0
_STOPS_S = ((0.5, 15.0), (20.0, 32.0), (32.0, 90.0))
_LONGEST_ABSENCE_S = 60.0
_JUMP_S = 3600.0
_DISTANCES_S = (0.02, 0.3)
_SETTLING_S = LOOKBACK_S + 60.0
_LONGEST_QUIET_S = 3600.0


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a run. ``wrong`` is what was broken, or None."""

    scenario: Scenario
    wrong: str | None
    digest: str
    shop_hours: float
    virtual_s: float
    real_s: float
    requests: int
    worst_second: int
    nemeses: dict[str, int]
    history: Sequence[str]

    def __str__(self) -> str:
        story = "\n".join(self.history[-25:])
        return (
            f"seed {self.scenario.seed}: {self.wrong}\n{story}\n{self.scenario}\n"
            f"repeat it with: python -m tests.simulation --first {self.scenario.seed} --seeds 1 --trace"
        )


class Play:
    """The stage of one run. The machines share its Postgres and its API."""

    def __init__(self, scenario: Scenario, *, trace: Callable[[str], None] | None = None) -> None:
        self.scenario = scenario
        self.world = World(scenario.seed, turn_s=scenario.turn_s)
        self.world.trace = trace
        self.rng = random.Random(f"play {scenario.seed}")
        self.books = Books()
        self.notes, self.tables = Notes(self.books), Tables(self.books)
        self.server = Server(self.world, statements(self.books, self.notes, self.tables))
        self.server.latency_s = scenario.database_s
        self.api = Api(self.world, scenario)
        self.judge = Judge(self.world, api=self.api, books=self.books, tables=self.tables)
        self.server.on_commit = self.judge.judge_commit
        self.notes.on_settled = self.judge.judge_settled
        self.notes.on_heard = self.judge.note_heard
        self.mover = Mover(self.world, scenario, api=self.api, notify=self._notify)
        self.api.before_page = self.mover.meet
        self.api.on_request = self.judge.judge_request
        self.workers: list[Worker] = []
        self.nemeses: dict[str, int] = {}
        self._is_quiet = False
        self._undisturbed_since = self.world.now
        self._starts = 0

    def play(self) -> Played:
        """The run, from its beginning to its quiet end."""
        began, wrong, start = time.process_time(), None, self.world.now
        with simulated(self.world, self.server, self.scenario):
            try:
                self._set_up()
                self.world.run_until(start + self.scenario.hours * _HOUR_S)
                self._calm_down()
                self.judge.compare()
            except Violation as violation:
                wrong = str(violation)
            virtual_s = self.world.now - start
            self.world.end()
        return Played(
            scenario=self.scenario,
            wrong=wrong,
            digest=self.world.digest,
            shop_hours=virtual_s / _HOUR_S * self.scenario.shops,
            virtual_s=virtual_s,
            real_s=time.process_time() - began,
            requests=self.api.requests,
            worst_second=self.api.worst_second,
            nemeses={**self.nemeses, "notices": self.mover.heard},
            history=list(self.world.history),
        )

    def _set_up(self) -> None:
        for number in range(self.scenario.shops):
            self._open_shop(str(7000 + number))
        self.server.cut = self.scenario.cut
        self.server.cut_at_commit = self.scenario.cut_at_commit
        for _ in range(self.scenario.workers):
            self._start_worker()
        for name, rate, strike in (
            ("kills", self.scenario.kills, self._kill_soon),
            ("stops", self.scenario.stops, self._stop_soon),
            ("terms", self.scenario.terms, self._terminate),
            ("jumps", self.scenario.jumps, self._jump),
        ):
            self._strike_at_random(name, rate * self.scenario.workers, strike)
        self._strike_at_random("restarts", self.scenario.restarts, self._restart_database)
        self._strike_at_random("changes", self.scenario.changes * self.scenario.shops, self.mover.change)
        self.world.after(_LOOK_S, self._look)

    def _open_shop(self, shop_id: str) -> None:
        scenario, now = self.scenario, self.world.epoch_s
        seller = Seller(shop_id, random.Random(f"seller {scenario.seed} {shop_id}"))
        self.api.sellers[shop_id] = seller
        crowded = [now - seller.rng.uniform(1, scenario.history_s) for _ in range(3)]
        for stream, rows in (("orders", scenario.orders), ("products", scenario.products)):
            for _ in range(rows):
                is_crowded = seller.rng.random() < 0.2
                age = (
                    seller.rng.choice(crowded)
                    if is_crowded
                    else now - seller.rng.uniform(1, scenario.history_s)
                )
                seller.make(stream, age)
        seller.warehouses = {str(n): 0 for n in range(1, 3)}
        self.books.shops[shop_id] = Row(
            shop_id=shop_id, name=f"shop {shop_id}", region="US", app="default", credential_id=1,
            cipher=shop_id, state="active", granted_scopes=[], state_reason=None,
            state_since=datetime.fromtimestamp(now, UTC), seller_name="", connected_at=None,
            refresh_expires_at=None,
        )  # fmt: skip
        self.books.states[shop_id] = "active"
        for stream in STREAMS:
            self.books.cursors[shop_id, stream] = CursorRow(self.world.now)

    # Processes.

    def _start_worker(self) -> None:
        self._starts += 1
        machine = Machine(self.world, f"worker {self._starts}")
        machine.wall_offset_s = self.rng.choice((0.0, 0.0, -_JUMP_S, _JUMP_S)) if self.scenario.jumps else 0.0
        machine.distance_s = self.rng.choice(_DISTANCES_S)
        self.world.machines.append(machine)
        worker = Worker(machine, self.scenario, api=self.api, books=self.books)
        self.workers.append(worker)
        worker.main.add_done_callback(lambda _: self._note_end(worker))

    def _note_end(self, worker: Worker) -> None:
        """It has ended by itself: told to, or for want of a database."""
        error = worker.main.exception()
        if error is not None and not isinstance(error, SyncError):
            self.world.violations.append(f"{worker.machine.name} ended with {error!r}")
        self._bury(worker, delivers=True)

    def _bury(self, worker: Worker, *, delivers: bool) -> None:
        if worker.machine.is_dead:
            return
        self.world.record(f"{worker.machine.name} is gone")
        self.world.kill(worker.machine)
        self.server.forget(worker.machine, delivers=delivers)
        self.workers.remove(worker)
        absence_s = 1.0 if self._is_quiet else self.rng.uniform(0.2, _LONGEST_ABSENCE_S)
        self._disturb()
        self.world.after(absence_s, self._start_worker)
        if self.rng.random() < 0.5:
            for other in self.workers:
                other.look_now()

    def _disturb(self) -> None:
        self._undisturbed_since = self.world.now

    def _strike_at_random(self, name: str, per_hour: float, strike: Callable[[], bool]) -> None:
        if not per_hour:
            return

        def again() -> None:
            if self._is_quiet:
                return
            if strike():
                self.nemeses[name] = self.nemeses.get(name, 0) + 1
            self.world.after(self.rng.expovariate(per_hour / _HOUR_S), again)

        self.world.after(self.rng.expovariate(per_hour / _HOUR_S), again)

    def _pick(self) -> Worker | None:
        alive = [w for w in self.workers if w.machine.runs]
        return self.rng.choice(alive) if alive else None

    def _count_down(self, strike: Callable[[Worker], None]) -> bool:
        """Strikes after a random number of callbacks: between any two awaits of whatever runs then."""
        worker = self._pick()
        if worker is None or worker.machine.countdown:
            return False
        worker.machine.countdown = int(math.exp(self.rng.uniform(0, math.log(_LONGEST_COUNTDOWN))))
        worker.machine.on_zero = lambda: None if self._is_quiet else strike(worker)
        return True

    def _kill_soon(self) -> bool:
        return self._count_down(lambda worker: self._bury(worker, delivers=self.rng.random() < 0.7))

    def _stop_soon(self) -> bool:
        return self._count_down(self._stop)

    def _stop(self, worker: Worker) -> None:
        machine = worker.machine
        machine.is_stopped = True
        self.world.record(f"{machine.name} stands still")
        self.server.note_stop(machine)
        self._disturb()
        # Short ones, such as end just when the lease does, and long ones.
        stop_s = self.rng.uniform(*self.rng.choice(_STOPS_S))
        self.world.after(stop_s, lambda: self._go_on(machine))

    def _go_on(self, machine: Machine) -> None:
        if not machine.is_dead:
            self.world.record(f"{machine.name} goes on")
            machine.is_stopped = False
        self._disturb()

    def _terminate(self) -> bool:
        worker = self._pick()
        if worker is not None:
            worker.terminate()
        return worker is not None

    def _jump(self) -> bool:
        worker = self._pick()
        if worker is not None:
            worker.machine.wall_offset_s = self.rng.uniform(-_JUMP_S, _JUMP_S)
        return worker is not None

    def _restart_database(self) -> bool:
        down_s = self.rng.choice((0.5, 5.0, 60.0))
        self.world.record(f"Postgres is down for {down_s} s")
        self.server.restart(down_s=down_s)
        self._disturb()
        self.world.after(down_s, self._disturb)
        return True

    def _notify(self, heard: Heard) -> bool:
        worker = self._pick()
        return worker is not None and not self._is_quiet and worker.notify(heard)

    # What is looked at.

    def _look(self) -> None:
        if not self._is_quiet:
            if not self.workers or any(w.machine.is_stopped for w in self.workers):
                self._disturb()
            self.judge.judge_waiting(self._undisturbed_since, self.scenario.intervals_s)
            self.world.after(_LOOK_S, self._look)

    def _calm_down(self) -> None:
        """Nothing moves or fails any more, and everything was read once since."""
        self._is_quiet = self.api.is_calm = True
        self.server.cut = self.server.cut_at_commit = 0.0
        for worker in list(self.workers):
            worker.machine.is_stopped = False
        self.world.run_until(self.world.now + _SETTLING_S)
        quiet_since = self.world.now
        for shop_id in self.api.sellers:
            self.books.make_due(self.server, Any, shop_id)  # type: ignore[arg-type] # it has no transaction
        while self._unread(quiet_since):
            if self.world.now > quiet_since + _LONGEST_QUIET_S:
                raise Violation(f"not read in quiet: {self._unread(quiet_since)}")
            self.world.run_until(self.world.now + 30.0)

    def _unread(self, since: float) -> list[tuple[str, str]]:
        cursors = self.books.cursors.items()
        return [key for key, cursor in cursors if (cursor.succeeded_at or 0.0) <= since]


def play(scenario: Scenario, *, trace: Callable[[str], None] | None = None) -> Played:
    """The run of the scenario."""
    return Play(scenario, trace=trace).play()
