"""TikTok Shop in memory: searches over what moves, the limit as the server counts it, and faults."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import aiohttp
import msgspec

from sync.streams.registry import STREAMS
from sync.tiktok.codes import RATE_LIMITED, SEVERAL_MEANINGS
from sync.tiktok.turn import TURN
from tests.simulation.scenario import Scenario
from tests.simulation.seller import Seller, Version
from tests.simulation.world import Machine, Silence, Violation, World

# What TikTok Shop documents, whatever smaller limit a run has.
_HIGHEST = 50
_JITTER_S = 0.016
_SLOW_S = 20.0
_BY_PATH = {stream.path: stream.name for stream in STREAMS.values()}
_LOOKUPS = {stream.lookup.path: stream.name for stream in STREAMS.values() if stream.lookup is not None}
_decode = msgspec.json.Decoder().decode

Shown = list[tuple[str, Version]]


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """All sellers, and what was asked of them."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.rng = random.Random(f"api {scenario.seed}")
        self.sellers: dict[str, Seller] = {}
        self.is_calm = False
        self.requests = 0
        self.worst_second = 0
        # Called with the seller, the stream and the keys of a search that is about to be answered.
        self.before_page: Callable[[Seller, str, Sequence[str]], None] = lambda *_: None
        self.on_request: Callable[[str, str], None] = lambda *_: None
        self._asked: dict[str, deque[float]] = {}
        self._snapshots: dict[str, Shown] = {}

    def answer(self, machine: str, shop_id: str, path: str, query: Mapping[str, str], body: bytes) -> _Reply:
        """What the server says to a request that has arrived."""
        self.requests += 1
        self.world.record(f"{machine} asks {shop_id} {path} {query.get('page_token', '')} {body!r}")
        if shop_id:
            self.on_request(shop_id, machine)
        if self._is_too_much(shop_id) or self._strikes("refused"):
            headers = {"Retry-After": "2"} if self.rng.random() < 0.3 else {}
            return self._say(RATE_LIMITED, "too many requests", status=429, headers=headers)
        if self._strikes("silent"):
            raise Silence
        if self._strikes("broken"):
            return self._break()
        seller = self.sellers.get(shop_id)
        if seller is None:
            return self._show("shops", [f'{{"id":"{s}"}}'.encode() for s in self.sellers])
        return self._answer(seller, path, query, _decode(body) if body else {})

    def _is_too_much(self, shop_id: str) -> bool:
        """Counts the request, as the server does: any stretch of a second, its beginning left out."""
        now, asked = self.world.now, self._asked.setdefault(shop_id, deque())
        asked.append(now)
        while asked[0] <= now - 1.0:
            asked.popleft()
        self.worst_second = max(self.worst_second, len(asked))
        if len(asked) > _HIGHEST and shop_id:
            raise Violation(f"{len(asked)} requests of shop {shop_id} within a second")
        return bool(shop_id) and len(asked) > self.scenario.requests_limit

    def _strikes(self, fault: str) -> bool:
        risk: float = getattr(self.scenario, fault)
        return bool(risk) and not self.is_calm and self.rng.random() < risk

    def _break(self) -> _Reply:
        kind = self.rng.randrange(4)
        if kind == 0:
            raise aiohttp.ClientOSError(104, "Connection reset by peer")
        if kind == 1:
            return self._say(36009003, "internal error", status=500)
        if kind == 2:
            return _Reply(502, self._headers(), b"<html>bad gateway</html>")
        return _Reply(200, self._headers(), b'{"code":0,"message":"Success","data":{"ord')

    def _answer(self, seller: Seller, path: str, query: Mapping[str, str], body: Any) -> _Reply:
        now = self.world.epoch_s
        for table in (seller.orders, seller.products):
            table.catch_up(now)
        if path == STREAMS["warehouses"].path:
            return self._show("warehouses", [seller.render_warehouse(k) for k in seller.warehouses])
        if path == STREAMS["inventory"].path:
            keys = [k for k in body["product_ids"] if k in seller.stock]
            return self._show("inventory", [seller.render_stock(k) for k in keys])
        if path in _LOOKUPS:
            orders = seller.orders
            found = [k for k in query["ids"].split(",") if k in orders.truth]
            return self._show("orders", [orders.render(k, orders.truth[k]) for k in found])
        return self._search(seller, _BY_PATH[path], query, body)

    def _search(self, seller: Seller, stream: str, query: Mapping[str, str], body: Any) -> _Reply:
        table, size, token = seller.table(stream), int(query["page_size"]), query.get("page_token")
        if token is not None and self._strikes("lost_token"):
            return self._say(SEVERAL_MEANINGS, "page_token is invalid")
        until = body["update_time_lt"] if "update_time_lt" in body else body["update_time_le"] + 1
        keys = table.find(body["update_time_ge"], until)
        if not self.is_calm:
            self.before_page(seller, stream, keys)
            keys = table.find(body["update_time_ge"], until)
        if body.get("status") == "DELETED":
            keys = [k for k in keys if table.shown[k].is_deleted]
        found: Shown = [(k, table.shown[k]) for k in keys]
        page, after, total = self._page(found, token, size)
        if self._strikes("empty_page") and after is not None:
            page = []
        if page and self._strikes("twice"):
            page = [*page, page[-1]]
        if after is not None and token is not None and self._strikes("repeated_token"):
            after = token
        records = [table.render(k, version) for k, version in page]
        return self._show(stream, records, token=after, total=self._count(total))

    def _page(self, found: Shown, token: str | None, size: int) -> tuple[Shown, str | None, int]:
        """The rows of the page, the token of the next, and how many rows there are now."""
        if self.scenario.paging == "snapshot" and len(found) > size and token is None:
            token = f"{len(self._snapshots)}:0"
            self._snapshots[token.partition(":")[0]] = found
        if token is None:
            place = 0
        elif self.scenario.paging == "keyset":
            second, _, key = token.partition(":")
            place = sum((v.update_s, k) <= (int(second), key) for k, v in found)
        else:
            name, _, offset = token.rpartition(":")
            found, place = self._snapshots.get(name, found), int(offset)
        page, behind = found[place : place + size], len(found) > place + size
        if not behind or not page:
            return page, None, len(found)
        if self.scenario.paging == "keyset":
            return page, f"{page[-1][1].update_s}:{page[-1][0]}", len(found)
        name = token.rpartition(":")[0] if token is not None else ""
        return page, f"{name}:{place + size}", len(found)

    def _count(self, total: int) -> int | None:
        if self.is_calm or self.scenario.counts == "right":
            return total
        return None if self.scenario.counts == "absent" else total + 3

    def _show(
        self, name: str, records: Sequence[bytes], *, token: str | None = None, total: int | None = None
    ) -> _Reply:
        parts = [b'"' + name.encode() + b'":[' + b",".join(records) + b"]"]
        if token is not None:
            parts.append(b'"next_page_token":"' + token.encode() + b'"')
        if total is not None:
            parts.append(f'"total_count":{total}'.encode())
        data = b'{"code":0,"message":"Success","request_id":"r","data":{' + b",".join(parts) + b"}}"
        return _Reply(200, self._headers(), data)

    def _say(
        self, code: int, message: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> _Reply:
        body = msgspec.json.encode({"code": code, "message": message, "request_id": "r"})
        return _Reply(status, {**self._headers(), **(headers or {})}, body)

    def _headers(self) -> dict[str, str]:
        stray_s = self.rng.uniform(-1e6, 1e6) if self._strikes("stray_date") else 0.0
        return {"Date": formatdate(self.world.epoch_s + stray_s, usegmt=True)}


class _Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


class _Response:
    def __init__(self, reply: _Reply) -> None:
        self.status, self.headers = reply.status, reply.headers
        self.content = _Content(reply.body)


class _Asked:
    """A request before it is signed, and its address."""

    def __init__(self) -> None:
        self.url = self
        self.query: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def with_query(self, query: dict[str, str]) -> _Asked:
        self.query = query
        return self


class HttpSession:
    """What the client sends its requests through, in place of aiohttp's session."""

    def __init__(self, machine: Machine, api: Api) -> None:
        self._machine = machine
        self._api = api

    def request(self, _method: str, url: Any, *, data: bytes | None, **_: Any) -> _Exchange:
        return _Exchange(self._machine, self._api, str(url.path), data or b"")


class _Exchange:
    """One request and its answer, as an async context."""

    def __init__(self, machine: Machine, api: Api, path: str, body: bytes) -> None:
        self._machine, self._api, self._path, self._body = machine, api, path, body

    async def __aenter__(self) -> _Response:
        request: Any = _Asked()
        await TURN.get().take(request)
        api, machine = self._api, self._machine
        back_s = api.scenario.answer_s * api.rng.uniform(0.3, 1.5)
        if api._strikes("slow"):
            back_s += api.rng.uniform(0, _SLOW_S)
        shop_id = request.query.get("shop_cipher", "")
        reply = await machine.ask(
            lambda: api.answer(machine.name, shop_id, self._path, request.query, self._body),
            # As far apart as they left, but for the jitter of the way.
            there_s=machine.distance_s + api.rng.uniform(0, _JITTER_S),
            back_s=back_s,
        )
        return _Response(reply)

    async def __aexit__(self, *_: object) -> None:
        pass


def lag(rng: random.Random, scenario: Scenario) -> float:
    """How long the searches do not show a change."""
    return rng.uniform(0, scenario.lag_s) if scenario.lag_s and rng.random() < 0.5 else 0.0
