"""Lets things happen in the shops at a chosen rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TICK_S = 0.02


class Mutator:
    """Keeps mutating at a chosen rate until told otherwise."""

    def __init__(self, mutate: Callable[[], object]) -> None:
        self._mutate = mutate
        self._task: asyncio.Task[None] | None = None
        self.per_second = 0.0

    async def set_rate(self, per_second: float) -> None:
        """Mutations go on at this rate; with 0 the last one is done when this returns.

        Raises what a mutation raised since the last call, if one did.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
        self.per_second = per_second
        if per_second > 0:
            self._task = asyncio.create_task(self._run(per_second))

    async def _run(self, per_second: float) -> None:
        clock = asyncio.get_running_loop().time
        start, done = clock(), 0
        while True:
            due = int((clock() - start) * per_second)
            for _ in range(min(due - done, 500)):
                self._mutate()
            done = due
            await asyncio.sleep(_TICK_S)
