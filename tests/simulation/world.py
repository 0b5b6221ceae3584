"""Simulated time: one clock, and machines on it that each run a loop of their own.

A machine that is stopped is a loop that gets no turns while the clock goes on; one that is killed gets
none ever again, so not even a ``finally`` of it runs. No real time, socket or file is involved.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")

# The moment by TikTok's clock and by Postgres's at which every run begins.
START_S = 1_700_000_000.0
_SHOWN = 60
_MOST_CALLBACKS = 100_000
_MOST_BURIALS = 100


class Violation(AssertionError):  # noqa: N818 - it is no error of the test's
    """A promise of the product was broken."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where in memory it lies."""

    _numbers = count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimLoop(asyncio.BaseEventLoop):
    """A loop that waits for nothing: the world gives it turns."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self._world = world
        self.living: dict[SimTask, None] = {}
        make_task: Any = _make_task
        self.set_task_factory(make_task)
        self.set_exception_handler(machine.note_fault)

    def time(self) -> float:
        return self._world.now

    @property
    def next_at(self) -> float | None:
        """When there is something to run; None when everything waits for others."""
        if self._ready:
            return self._world.now
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        return scheduled[0]._when if scheduled else None

    def turn(self, may_run: Callable[[], bool]) -> bool:
        """All that was ready ran, and what it made ready, while the machine lived; False if it never ends."""
        now, scheduled, ready = self._world.now, self._scheduled, self._ready
        while scheduled and (scheduled[0]._when <= now or scheduled[0]._cancelled):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(handle)
        events._set_running_loop(self)
        try:
            for _ in range(_MOST_CALLBACKS):
                if not ready:
                    return True
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                if not may_run():
                    ready.appendleft(handle)
                    return True
                handle._run()
            return False
        finally:
            events._set_running_loop(None)


def _make_task(loop: Any, coroutine: Coroutine[Any, Any, Any], context: Context | None = None) -> SimTask:
    task = SimTask(coroutine, loop=loop, context=context)
    loop.living[task] = None
    task.add_done_callback(loop.living.pop)
    return task


class Machine:
    """One process, until it is killed. ``countdown`` callbacks from now, ``on_zero`` is called."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.loop = SimLoop(world, self)
        self.is_dead = False
        self.is_stopped = False
        self.wall_offset_s = 0.0
        # How long its requests are on their way.
        self.distance_s = 0.02
        self.countdown = 0
        self.on_zero: Callable[[], None] = lambda: None
        # What runs on it.
        self.worker: Any = None

    @property
    def runs(self) -> bool:
        return not (self.is_dead or self.is_stopped)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> SimTask:
        task: Any = self.loop.create_task(coroutine, name=name)
        return task  # type: ignore[no-any-return]

    def turn(self) -> None:
        self.world.current = self
        if not self.loop.turn(self._may_run):
            self.world.violations.append(f"{self.name} never waits: it would use up a processor")

    def _may_run(self) -> bool:
        if self.countdown:
            self.countdown -= 1
            if not self.countdown:
                self.on_zero()
        return not (self.is_dead or self.is_stopped)

    async def ask(self, work: Callable[[], _Answer], *, there_s: float, back_s: float) -> _Answer:
        """The answer of somebody outside, who works whether or not this machine still lives."""
        if self.is_dead:
            raise asyncio.CancelledError
        answer: asyncio.Future[_Answer] = self.loop.create_future()
        self.world.after(there_s, lambda: self._work(work, answer, back_s))
        return await answer

    def _work(self, work: Callable[[], _Answer], answer: asyncio.Future[_Answer], back_s: float) -> None:
        try:
            result = work()
        except Violation:
            raise
        except Again as again:
            self.world.after(again.after_s, lambda: self._work(work, answer, back_s))
        except Silence:
            pass
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            failure = error
            self.world.after(back_s, lambda: self._deliver(answer, answer.set_exception, failure))
        else:
            self.world.after(back_s, lambda: self._deliver(answer, answer.set_result, result))

    def _deliver(self, answer: asyncio.Future[Any], put: Callable[[Any], None], what: Any) -> None:
        def settle() -> None:
            if not answer.done():
                put(what)

        if not self.is_dead:
            self.loop.call_soon(settle)

    def note_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught is a fault of the product."""
        if not self.is_dead:
            self.world.violations.append(
                f"{self.name}: {context.get('message')}: {context.get('exception')!r}"
            )

    def bury(self) -> None:
        """Nothing of a dead machine is left. What its tasks still try reaches nobody."""
        self.world.current = self
        for _ in range(_MOST_BURIALS):
            tasks = [task for task in self.loop.living if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.turn(lambda: True)
        self.loop.close()


class Again(Exception):  # noqa: N818 - no failure
    """Whoever works is kept waiting, and tries again."""

    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.after_s = after_s


class Silence(Exception):  # noqa: N818 - no failure
    """No answer ever comes."""


class World:
    """The clock, what happens on it, and the record of all that did."""

    def __init__(self, seed: int, *, turn_s: float = 1e-6) -> None:
        self.rng = random.Random(f"world {seed}")
        self.now = 1000.0
        self.machines: list[Machine] = []
        self.current: Machine | None = None
        self.violations: list[str] = []
        self.history: deque[str] = deque(maxlen=_SHOWN)
        self.trace: Callable[[str], None] | None = None
        self._digest = hashlib.sha256()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._turn_s = turn_s

    @property
    def digest(self) -> str:
        """Stands for everything that was recorded, in its order."""
        return self._digest.hexdigest()

    @property
    def epoch_s(self) -> float:
        """Seconds since 1970, by the clocks that are right."""
        return START_S - 1000.0 + self.now

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.epoch_s, UTC)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), do))

    def record(self, what: str) -> None:
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        self.history.append(line)
        if self.trace is not None:
            self.trace(line)

    def run_until(self, end: float) -> None:
        """The clock stands at ``end``, and everything before has happened. Raises Violation at the first."""
        while not self.violations:
            at = self._events[0][0] if self._events else end
            first: Machine | None = None
            for machine in self.machines:
                if machine.runs and (next_at := machine.loop.next_at) is not None and next_at < at:
                    at, first = next_at, machine
            if at >= end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, at) + self._turn_s
            if first is None:
                heapq.heappop(self._events)[2]()
            else:
                first.turn()
        raise Violation(self.violations[0])

    def kill(self, machine: Machine) -> None:
        machine.is_dead = True
        self.machines.remove(machine)
        self.after(0.0, machine.bury)

    def end(self) -> None:
        """Nothing is left of any machine."""
        for machine in list(self.machines):
            self.kill(machine)
        while self._events:
            _, _, do = heapq.heappop(self._events)
            if getattr(do, "__name__", "") == "bury":
                do()
