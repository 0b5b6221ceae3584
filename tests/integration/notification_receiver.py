"""A small server that hears notifications and answers them as a test likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sync.simulator.notifier import Notifier
from tests.integration.simulator_probe import Probe

_DEADLINE_S = 20


@dataclass(frozen=True, slots=True)
class Heard:
    """One notification as it came."""

    raw: bytes
    signature: str
    path: str

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def type(self) -> int:
        return int(self.json["type"])


@dataclass(slots=True)
class Receiver:
    """Answers each notification with the status that ``answer`` says; ``hold`` keeps the answers back."""

    answer: Callable[[Heard], int] = lambda heard: 200
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        heard = Heard(await request.read(), request.headers["Authorization"], request.path)
        async with self._changed:
            self.heard.append(heard)
            self._changed.notify_all()
        await self.hold.wait()
        return web.Response(status=self.answer(heard))

    async def wait_for(self, count: int) -> list[Heard]:
        """All that was heard, once it is this much."""
        async with asyncio.timeout(_DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.heard) >= count)
        return self.heard

    def of_type(self, kind: int) -> list[Heard]:
        return [one for one in self.heard if one.type == kind]


@asynccontextmanager
async def receiving(answer: Callable[[Heard], int] = lambda heard: 200) -> AsyncIterator[Receiver]:
    """A receiver on loopback, which answers at once."""
    receiver = Receiver(answer)
    receiver.hold.set()
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None), shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/tiktok"
        yield receiver
    finally:
        receiver.hold.set()
        await runner.cleanup()


async def settled(notifier: Notifier) -> dict[str, Any]:
    """The counts, once nothing is under way."""
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            summary = notifier.summary()
            if not summary["in_flight"] and not summary["waiting"]:
                return summary
            await asyncio.sleep(0.005)


def happen(probe: Probe, kind: str, count: int = 1) -> list[str]:
    """Changes of this kind in the probe's shop, as many as asked; returns what changed."""
    mutations = probe.running.simulation.mutations
    made: list[str] = []
    while len(made) < count:
        made += [changed for changed in [mutations.make(kind, probe.shop)] if changed]
    return made
