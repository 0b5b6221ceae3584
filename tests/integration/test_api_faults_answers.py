"""Answers that are cut, huge, or never end: what they cost, and what they must not give away."""

from __future__ import annotations

import asyncio
import gzip
import re
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from sync.errors import RequestError, SyncError
from sync.store.leases import Lease
from sync.store.sink import Sink
from sync.tiktok import client as client_module
from sync.tiktok.client import Client
from sync.tiktok.envelope import Envelope, read_aside, read_envelope, read_page
from sync.tiktok.limiter import Pacer
from tests.integration.raw_server import Behave, Seen, Writer, always, reply
from tests.integration.store_probe import ORDERS
from tests.integration.test_client_requests import ACCESS, POST, connected

_MIB = 1 << 20
_PATIENCE_S = 20
_TOKEN = "pIeCe0f4t0ken"
_OWN_MEMORY = Path("/proc/self")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(client_module, "_ATTEMPTS", 2)


def send(client: Client) -> Awaitable[object]:
    return client.send(POST, ACCESS, pacer=Pacer(1000))


def ask_token(client: Client) -> Awaitable[object]:
    return client.ask_token("/api/v2/token/refresh", {})


@pytest.mark.parametrize("ask", [send, ask_token])
@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"access_token":"%b' % _TOKEN.encode(),
        b'{"code":0,"data":{"access_token":"%b"' % _TOKEN.encode(),
        b"%b" % _TOKEN.encode(),
        b"GET /?refresh_token=%b is refused" % _TOKEN.encode(),
        b"<p>%b</p>" % _TOKEN.encode(),
        b'["%b"]' % _TOKEN.encode(),
        b'"%b"' % _TOKEN.encode(),
    ],
)
async def test_no_piece_of_a_broken_answer_is_shown(
    ask: Callable[[Client], Awaitable[object]], body: bytes
) -> None:
    with capture_logs() as logs:
        async with connected(always(reply(body))) as (client, _):
            with pytest.raises(RequestError) as caught:
                await ask(client)
    assert _TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(logs)
    # Whoever saves such an answer at a proxy can tell by the digest that it is this one.
    assert re.search(rf"{len(body)} bytes, SHA-256 \w{{12}}", str(caught.value))


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
async def test_an_answer_that_does_not_end_is_given_up_after_its_time(
    monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    """Each byte comes well within any time between two reads: only the whole answer's time helps."""
    monkeypatch.setattr(client_module, "_ANSWER_S", 0.3)

    async def behave(_: Seen, writer: Writer) -> None:
        writer.write(reply(b"", length=10**6))
        while True:
            if behaviour == "drip":
                writer.write(b" ")
                await writer.drain()
            await asyncio.sleep(0.01)

    async with connected(behave) as (client, seen), asyncio.timeout(_PATIENCE_S):
        with pytest.raises(RequestError, match="in time"):
            await send(client)
    assert len(seen) == 2


@pytest.mark.parametrize("size", [10, 2 * _MIB])
async def test_the_loop_goes_on_while_a_large_answer_is_read(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    loop = asyncio.get_running_loop()
    was_alive: list[bool] = []

    def read_when_the_loop_answers(body: bytes) -> Envelope:
        turned = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
        try:
            turned.result(_PATIENCE_S if len(body) > _MIB else 0.01)
        except TimeoutError:
            turned.cancel()
        was_alive.append(turned.done() and not turned.cancelled())
        return read_envelope(body)

    monkeypatch.setattr(client_module, "read_envelope", read_when_the_loop_answers)
    body = b'{"code":0,"data":{"orders":["' + b"x" * size + b'"]}}'
    async with connected(always(reply(body))) as (client, _):
        await send(client)
    assert was_alive == [size > _MIB]


async def _stream_without_end(_: Seen, writer: Writer, *, packed: bool) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
    writer.write(b"Content-Encoding: gzip\r\n\r\n" if packed else b"\r\n")
    # One member after the other: it unpacks to as much as is asked for.
    piece = gzip.compress(b" " * (64 * _MIB), 1) if packed else b" " * _MIB
    while True:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()


def _peak_bytes() -> int:
    status = (_OWN_MEMORY / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
async def test_an_answer_without_end_takes_no_more_memory_than_one_page_may(packed: bool) -> None:
    behave: Behave = partial(_stream_without_end, packed=packed)
    async with connected(behave) as (client, _), asyncio.timeout(60):
        (_OWN_MEMORY / "clear_refs").write_text("5")  # The peak is counted from now on.
        before = _peak_bytes()
        with pytest.raises(SyncError, match="larger than 64 MiB"):
            await send(client)
        grown = _peak_bytes() - before
    # The pieces, the server's own buffers in this very process, and no second copy of it all.
    assert grown < 2 * client_module._MAX_BODY_BYTES


async def test_a_page_of_50_mb_is_stored_and_takes_a_few_times_its_size(
    sink: Sink, lease: Lease, connection: asyncpg.Connection
) -> None:
    note = "\\u00e9" + "x" * 500_000
    records = b",".join(
        b'{"id":"%d","update_time":1700000000,"buyer_message":"%b"%b}'
        % (n, note.encode(), b',"tts_sla_time":NaN' if n == 50 else b"")
        for n in range(100)
    )
    body = b'{"code":0,"data":{"orders":[%b],"total_count":100}}' % records
    async with connected(always(reply(body))) as (client, _):
        (_OWN_MEMORY / "clear_refs").write_text("5")
        before = _peak_bytes()
        answer = await client.send(POST, ACCESS, pacer=Pacer(1000))
        read = partial(read_page, answer.data, records="orders", key="id", fetched_at=answer.sent_at)
        page = await read_aside(read, size=len(answer.data))
        tally = await sink.write(ORDERS, page, lease=lease)
        grown = _peak_bytes() - before
    assert (tally.inserted, tally.rejected) == (100, 0)
    assert await connection.fetchval("SELECT count(*) FROM tiktok.orders WHERE NOT _scrubbed") == 99
    assert grown < 10 * len(body)
