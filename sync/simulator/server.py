"""The simulator as an HTTP server on one port: API, token calls, consent page, control."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from sync.simulator.calls import Call
from sync.simulator.consent import decide, show_consent
from sync.simulator.control import Control
from sync.simulator.fault_registry import WIRES
from sync.simulator.faults import REFRESH_PATH, TOKEN_PREFIX
from sync.simulator.gateway import answer
from sync.simulator.options import SimulatorOptions
from sync.simulator.replies import RefusedError, Reply, refuse
from sync.simulator.simulation import Simulation, make_simulation
from sync.simulator.token_calls import answer_token_call
from sync.simulator.world import World

_SHUTDOWN_S = 1.0
_LONG_ID = re.compile(r"/\d{15,}")


@dataclass(frozen=True, slots=True)
class SellerCard:
    """What a person needs to know to onboard a simulated seller."""

    name: str
    open_id: str
    shops: tuple[str, ...]
    code: str


@dataclass(slots=True)
class RunningSimulator:
    """A simulator that answers at ``url`` until it is closed."""

    url: str
    simulation: Simulation
    _runner: web.ServerRunner

    @property
    def world(self) -> World:
        """The simulated content, the very objects that answers are made from."""
        return self.simulation.world

    @property
    def options(self) -> SimulatorOptions:
        """The options in force now."""
        return self.simulation.options

    def change_options(self, **changes: object) -> None:
        """Requests from now on see the changes. Raises ValueError for unknown names or wrong values."""
        self.simulation.options = self.simulation.options.changed(changes)

    def sellers(self) -> list[SellerCard]:
        """The sellers that can consent, each with a code that was not used yet."""
        accounts = self.simulation.accounts
        return [
            SellerCard(
                name=consent.seller.name,
                open_id=consent.seller.open_id,
                shops=tuple(f"{shop.name} ({shop.market.region})" for shop in self.world.shops_of(open_id)),
                code=next(iter(consent.codes), None) or accounts.issue_code(open_id),
            )
            for open_id, consent in accounts.consents.items()
        ]

    async def close(self) -> None:
        """Nothing mutates any more, the port is free, and no notification is sent."""
        try:
            await self.simulation.mutator.set_rate(0)
        finally:
            await self.simulation.notifier.close()
            await self._runner.cleanup()
            await self.simulation.notifier.close()


async def serve(
    world: World,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    options: SimulatorOptions | None = None,
    clock: Callable[[], float] = time.time,
) -> RunningSimulator:
    """The simulator listens; port 0 picks a free one. Raises OSError when the address is taken."""
    simulation = make_simulation(world, options or SimulatorOptions(), clock=clock)
    server = web.Server(_Front(simulation).handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    return RunningSimulator(f"http://{host}:{bound}", simulation, runner)


class _Front:
    """Takes requests off the wire and puts replies on it."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._control = Control(simulation)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request on this port."""
        path = request.path
        if path.startswith("/_sim/"):
            return await self._control.handle(request)
        query = dict(request.rel_url.query)
        if path == "/open/authorize":
            return await self._send(request, show_consent(query, self._simulation))
        if path == "/open/authorize/decision":
            return await self._send(
                request, decide(query, self._simulation, shop_ids=request.rel_url.query.getall("shop", []))
            )
        return await self._call(request, path, query=query)

    async def _call(
        self, request: web.BaseRequest, path: str, *, query: dict[str, str]
    ) -> web.StreamResponse:
        simulation = self._simulation
        call = Call(
            request.method,
            path,
            query,
            b"",
            request.headers.get("x-tts-access-token", ""),
            request.content_type,
            simulation.now(),
            simulation.request_id(),
            simulation.world.shop_by_cipher.get(query.get("shop_cipher", "")),
        )
        self._count(call)
        call.body = await request.read()
        await self._delay()
        call.now = simulation.now()
        reply = simulation.faults.change_reply(call, self._answer(call, query))
        if path == REFRESH_PATH and simulation.options.refresh_latency_s > 0:
            # The new pair holds already: who hangs up now has lost it.
            await asyncio.sleep(simulation.options.refresh_latency_s)
        rule = simulation.faults.wire(call)
        if rule is None:
            return await self._send(request, reply)
        return await WIRES[rule.fault.name](request, reply, params=rule.params, send=self._send)

    def _count(self, call: Call) -> None:
        """Every request counts the moment it is here, whatever becomes of it."""
        simulation = self._simulation
        simulation.meter.requests += 1
        simulation.meter.token_gets += call.path == f"{TOKEN_PREFIX}get"
        simulation.meter.token_refreshes += call.path == REFRESH_PATH
        key = call.shop.shop_id if call.shop else simulation.accounts.meter_key(call.token)
        if key is not None:
            arrivals = simulation.meter.of(key)
            path = _LONG_ID.sub("/*", call.path)
            in_second = arrivals.arrive(asyncio.get_running_loop().time(), path)
            call.over_limit = 0 < simulation.options.limit_per_s < in_second
            arrivals.rate_limited += call.over_limit

    def _answer(self, call: Call, query: Mapping[str, str]) -> Reply:
        simulation = self._simulation
        try:
            faulty = simulation.faults.answer(call)
            if faulty is not None:
                return faulty
            if call.path.startswith(TOKEN_PREFIX):
                kind = call.path.removeprefix(TOKEN_PREFIX)
                if call.method != "GET" or kind not in ("get", "refresh"):
                    return Reply(b"404 page not found", 404, content_type="text/plain")
                return answer_token_call(kind, query, simulation=simulation, request_id=call.request_id)
            return answer(call, simulation)
        except RefusedError as refused:
            simulation.meter.codes[refused.code] += 1
            return refuse(refused, call.request_id)

    async def _delay(self) -> None:
        options = self._simulation.options
        delay_s = options.latency_s + (
            options.jitter_s * self._simulation.rng.random() if options.jitter_s else 0.0
        )
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        headers = dict(reply.headers)
        offset_s = self._simulation.faults.clock_offset_s()
        if offset_s:
            headers["Date"] = formatdate(self._simulation.now(), usegmt=True)
        return web.Response(
            body=reply.body, status=reply.status, headers=headers, content_type=reply.content_type
        )
