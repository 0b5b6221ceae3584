"""Requests on the wire: one turn of the pacer is one request, bounded in size and time, and discreet."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from structlog.testing import capture_logs

from sync.clock import ApiClock
from sync.errors import AppError, FencedOutError, RequestError, SyncError
from sync.tiktok import client as client_module
from sync.tiktok import turn as turn_module
from sync.tiktok.client import Access, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer
from sync.tiktok.signing import sign_request
from tests.integration.raw_server import GOOD, Behave, Seen, Writer, always, reply, server

CANARY = "cAnArY7f3e"
ACCESS = Access(
    keys=AppKeys(app_key="key1", app_secret=f"{CANARY}-secret"),
    token=f"{CANARY}-token",
    cipher=f"{CANARY}-cipher",
    shop_id="7",
)
GET = Call("GET", "/logistics/202309/warehouses")
POST = Call(
    "POST", "/order/202309/orders/search", query={"page_token": "a+/b==", "page_size": "2"}, body=b"{}"
)


@asynccontextmanager
async def connected(behave: Behave) -> AsyncIterator[tuple[Client, list[Seen]]]:
    async with (
        server(behave) as (url, seen),
        Client(api_url=url, auth_url=url, clock=ApiClock()) as client,
    ):
        yield client, seen


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.005)


async def failure(client: Client, call: Call = POST) -> SyncError:
    with pytest.raises(SyncError) as caught:
        await client.send(call, ACCESS, pacer=Pacer(1000))
    return caught.value


async def test_a_request_carries_what_the_signature_covers() -> None:
    async with connected(always(reply())) as (client, seen):
        answer = await client.send(POST, ACCESS, pacer=Pacer(1000))
    assert json.loads(answer.data) == {"orders": []}
    (request,) = seen
    assert request.line.startswith("POST /order/202309/orders/search?")
    assert request.body == b"{}"
    assert request.headers["x-tts-access-token"] == ACCESS.token
    assert request.query["page_token"] == "a+/b=="
    assert request.query["shop_cipher"] == ACCESS.cipher
    secret = ACCESS.keys.app_secret
    sign = sign_request("/order/202309/orders/search", request.query, app_secret=secret, body=b"{}")
    assert request.query["sign"] == sign


async def test_a_get_has_no_body() -> None:
    async with connected(always(reply())) as (client, seen):
        await client.send(GET, ACCESS, pacer=Pacer(1000))
    assert seen[0].body == b""


@pytest.mark.parametrize("call", [GET, POST], ids=["GET", "POST"])
async def test_one_turn_is_one_request_even_on_dead_connections(call: Call) -> None:
    async def answer_once_then_hang_up(request: Seen, writer: Writer) -> None:
        if request.nth == 1:
            writer.write(reply())
            await writer.drain()
        else:
            writer.close()

    turns = 0
    async with connected(answer_once_then_hang_up) as (client, seen):
        pacer = Pacer(1000)
        for _ in range(12):
            turns += (await client.send(call, ACCESS, pacer=pacer)).attempts
    assert turns == len(seen)
    assert turns > 12


@pytest.mark.parametrize("call", [GET, POST], ids=["GET", "POST"])
async def test_a_server_that_closes_after_every_answer_is_never_asked_more_than_once_a_turn(
    call: Call,
) -> None:
    async def answer_and_close(_: Seen, writer: Writer) -> None:
        writer.write(reply())
        await writer.drain()
        writer.close()

    async with connected(answer_and_close) as (client, seen):
        turns = [(await client.send(call, ACCESS, pacer=Pacer(1000))).attempts for _ in range(20)]
    # A turn may be lost on a connection that the server no longer reads.
    assert 20 <= len(seen) <= sum(turns)


async def test_every_attempt_is_signed_afresh_and_asks_its_guard_last() -> None:
    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise FencedOutError("overtaken")

    async with connected(always(reply(b"", status="503 Busy"))) as (client, seen):
        with pytest.raises(FencedOutError):
            await client.send(POST, ACCESS, pacer=Pacer(1000), guard=guard)
    assert len(seen) == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with server(always(reply())) as (elsewhere, stolen):
        moved = reply(b"", status=status, headers=f"Location: {elsewhere}/x\r\n")
        async with connected(always(moved)) as (client, seen):
            assert isinstance(await failure(client), AppError)
    assert (len(seen), len(stolen)) == (1, 0)


async def test_cookies_are_not_kept() -> None:
    async with connected(always(reply(headers="Set-Cookie: a=b; Path=/\r\n"))) as (client, seen):
        for _ in range(2):
            await client.send(GET, ACCESS, pacer=Pacer(1000))
    assert "cookie" not in seen[1].headers


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
async def test_an_answer_of_any_size_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(client_module, "_ATTEMPTS", 1)
    monkeypatch.setattr(client_module, "_MAX_BODY_BYTES", 1 << 20)
    body = b'{"code":0,"message":"' + b"x" * (40 << 20) + b'"}'
    answer = reply(gzip.compress(body, 1), headers="Content-Encoding: gzip\r\n") if packed else reply(body)
    async with connected(always(answer)) as (client, _):
        error = await failure(client)
    assert isinstance(error, RequestError)
    assert "larger than 1 MiB" in str(error)


async def test_a_page_of_some_size_is_read_whole() -> None:
    body = b'{"code":0,"data":{"orders":["' + b"x" * (3 << 20) + b'"]}}'
    answer = reply(gzip.compress(body, 1), headers="Content-Encoding: gzip\r\n")
    async with connected(always(answer)) as (client, _):
        assert len((await client.send(POST, ACCESS, pacer=Pacer(1000))).data) > 3 << 20


async def hang(_: Seen, writer: Writer) -> None:
    await asyncio.Event().wait()


async def drip(_: Seen, writer: Writer) -> None:
    writer.write(reply(b"", length=10**6))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("behave", [hang, drip])
async def test_no_answer_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, behave: Behave) -> None:
    monkeypatch.setattr(client_module, "_TOKEN_S", 0.3)
    async with connected(behave) as (client, _), asyncio.timeout(5):
        with pytest.raises(RequestError, match="in time"):
            await client.ask_token("/api/v2/token/refresh", {})


BROKEN: dict[str, bytes] = {
    "no HTTP": b"garbage\r\n\r\n",
    "nothing": b"",
    "cut head": b"HTTP/1.1 200",
    "cut body": reply(GOOD, length=10**6),
    "cut JSON": reply(GOOD[:-5]),
    "not JSON": reply(b"<html>"),
    "not an object": reply(b"[]"),
    "no body": reply(b"", status="204 No Content"),
    "broken gzip": reply(b"no gzip at all", headers="Content-Encoding: gzip\r\n"),
    "cut gzip": reply(gzip.compress(GOOD)[:25], headers="Content-Encoding: gzip\r\n"),
    "unknown encoding": reply(b"xx", headers="Content-Encoding: br\r\n"),
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    "server error": reply(b"", status="500 Oops"),
    "token refused": reply(b'{"code":105002,"message":"expired"}', status="401 No"),
    "bad signature": reply(b'{"code":106001,"message":"sign"}'),
    "redirect": reply(b"", status="302 Found", headers="Location: https://evil.example/\r\n"),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("kind", ["api", "token"])
async def test_no_failure_shows_a_secret(monkeypatch: pytest.MonkeyPatch, answer: bytes, kind: str) -> None:
    monkeypatch.setattr(client_module, "_ATTEMPTS", 2)

    async def behave(_: Seen, writer: Writer) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    with capture_logs() as logs:
        async with connected(behave) as (client, seen):
            call: Awaitable[object] = (
                client.send(POST, ACCESS, pacer=Pacer(1000))
                if kind == "api"
                else client.ask_token("/api/v2/token/refresh", {"refresh_token": CANARY})
            )
            with pytest.raises(SyncError) as caught:
                await call
    assert CANARY in seen[0].line
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(logs)
    assert CANARY not in shown
    assert not re.search(r"sign=\w", shown)


async def test_an_address_that_nobody_listens_on_is_named_without_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_ATTEMPTS", 2)
    async with server(always(b"")) as (url, _):
        pass
    async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client:
        error: Any = await failure(client)
    assert isinstance(error, RequestError)
    assert urlsplit(url).netloc in str(error)
    assert CANARY not in "".join(traceback.format_exception(error))


async def test_a_connection_that_never_comes_about_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "_CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        # Whoever comes after these is neither let in nor turned away.
        for _ in range(4):
            waiter = waiting.enter_context(socket.socket())
            waiter.setblocking(False)
            waiter.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client, asyncio.timeout(10):
            with pytest.raises(RequestError, match="in time") as caught:
                await client.ask_token("/api/v2/token/refresh", {"refresh_token": CANARY})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_a_request_that_gives_up_before_its_turn_leaves_no_connection_behind() -> None:
    def refuse() -> None:
        raise FencedOutError("overtaken")

    async with server(always(reply())) as (url, seen):
        port = urlsplit(url).port

        def count_open() -> int:
            links = psutil.Process().net_connections("tcp")
            return sum(
                c.status == psutil.CONN_ESTABLISHED and c.raddr and c.raddr.port == port for c in links
            )

        async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client:
            for _ in range(3):
                pacer = Pacer(1000)
                pacer.pause(60)
                calls = [asyncio.create_task(client.send(POST, ACCESS, pacer=pacer)) for _ in range(10)]
                async with asyncio.timeout(10):
                    while count_open() < 10:
                        await asyncio.sleep(0.01)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            refused = (client.send(POST, ACCESS, pacer=Pacer(1000), guard=refuse) for _ in range(10))
            assert all(
                isinstance(e, FencedOutError) for e in await asyncio.gather(*refused, return_exceptions=True)
            )
            assert count_open() == 10
            assert seen == []
        async with asyncio.timeout(10):
            while count_open():
                await asyncio.sleep(0.01)


async def test_a_connection_that_ended_during_a_long_wait_costs_no_attempt() -> None:
    ended = asyncio.Event()

    async def answer_and_end(_: Seen, writer: Writer) -> None:
        writer.write(reply())
        await writer.drain()
        asyncio.get_running_loop().call_later(0.1, writer.close)
        asyncio.get_running_loop().call_later(0.1, ended.set)

    async with connected(answer_and_end) as (client, seen):
        await client.send(POST, ACCESS, pacer=Pacer(1000))
        pacer = Pacer(1000)
        pacer.pause(0.5)
        answer = await client.send(POST, ACCESS, pacer=pacer)
    assert ended.is_set()
    assert answer.attempts == 1
    assert [request.nth for request in seen] == [1, 1]


async def test_a_server_that_hangs_up_on_everybody_is_an_error_before_long() -> None:
    def hang_up(_: asyncio.StreamReader, writer: Writer) -> None:
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client:
        async with asyncio.timeout(20):
            # Slow enough for the end to be seen before the request leaves.
            with pytest.raises(RequestError):
                await client.send(POST, ACCESS, pacer=Pacer(20))
    listening.close()


async def test_an_answer_is_as_old_as_the_moment_when_its_request_left() -> None:
    async with connected(always(reply())) as (client, _):
        pacer = Pacer(1000)
        pacer.pause(0.5)
        waits_until = client.clock.time() + 0.5
        answer = await client.send(POST, ACCESS, pacer=pacer)
    assert waits_until - 0.01 <= answer.sent_at.timestamp() <= client.clock.time()


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "1 Jan 0101 1:1:1"]
)
async def test_a_date_beyond_all_reason_breaks_no_answer(date: str) -> None:
    async with connected(always(reply(headers=f"Date: {date}\r\n"))) as (client, _):
        for _ in range(3):
            answer = await client.send(POST, ACCESS, pacer=Pacer(1000))
            assert answer.attempts == 1
            assert abs((client.clock.now() - datetime.now(UTC)).total_seconds()) < 60
