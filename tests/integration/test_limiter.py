"""The pace as a server counts it, in real time over a real connection."""

from __future__ import annotations

import asyncio
import math
import time

from aiohttp import web

from sync.clock import ApiClock
from sync.tiktok.client import Access, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer

RUN_S = 5.0
BEAT_S = 0.005
JITTER_S = 0.011
BODY = b'{"code":0,"message":"Success","data":{}}'


def most_in_a_second(arrivals: list[float]) -> int:
    """The most arrivals in any second, wherever it begins."""
    most = start = 0
    for end, moment in enumerate(arrivals):
        while moment - arrivals[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most


class Stalls:
    """How late this process was woken by a busy machine, which no pacer can know of."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.lost_s = 0.0

    async def watch(self) -> None:
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            late_s = time.monotonic() - due
            self.worst_s = max(self.worst_s, late_s)
            self.lost_s += late_s if late_s > BEAT_S else 0.0


async def test_a_shop_at_full_speed_stays_within_the_limit_and_uses_it() -> None:
    arrivals: list[float] = []

    async def handle(_: web.BaseRequest) -> web.Response:
        arrivals.append(time.monotonic())
        await asyncio.sleep(0.1)  # The latency of an API, so that many requests are in flight.
        # Some refusals: what is sent again must pass the pacer as well.
        if len(arrivals) % 25 == 0:
            return web.Response(status=500)
        return web.Response(body=BODY)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    access = Access(keys=AppKeys(app_key="k", app_secret="s"), token="t")
    pacer = Pacer(50)
    end = time.monotonic() + RUN_S
    turns = 0
    stalls = Stalls()
    watch = asyncio.create_task(stalls.watch())
    try:
        async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client:

            async def work() -> None:
                nonlocal turns
                while time.monotonic() < end:
                    answer = await client.send(Call("GET", "/x"), access, pacer=pacer)
                    turns += answer.attempts

            async with asyncio.TaskGroup() as group:
                for _ in range(30):
                    group.create_task(work())
    finally:
        watch.cancel()
        await runner.cleanup()
    assert len(arrivals) == turns
    # Arrivals bunch up by as much as the process was asleep; the pacer allows for JITTER_S of that.
    bunched_s = max(0.0, stalls.worst_s - JITTER_S)
    assert most_in_a_second(arrivals) <= 50 + math.ceil(50 * bunched_s)
    full = [moment for moment in arrivals if moment <= end]
    assert (len(full) - 1) / (full[-1] - full[0] - stalls.lost_s) >= 48
