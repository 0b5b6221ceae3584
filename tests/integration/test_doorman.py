"""Connections that carry forgeries: refused at the door, and no request is lost or made up there."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import asyncpg
import pytest

from sync.tiktok.signing import sign_notification
from sync.web.doorman import Door as Entrance
from sync.web.doorman import Refusal
from sync.web.webhooks import PATH
from tests.webhook_probe import GLOBAL, Door, hints, notification, raw, standing

pytest_plugins = ("tests.webhook_fixtures",)

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


async def status_line(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return (await reader.readuntil(b"\r\n\r\n"))[9:12]


async def test_what_follows_a_forgery_on_its_connection_is_heard(
    door: Door, connection: asyncpg.Connection
) -> None:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    genuine = notification()
    signature = sign_notification(genuine, app_key=GLOBAL[0], app_secret=GLOBAL[1])
    for request, status in (
        (raw(b"{}"), b"401"),
        (raw(genuine, signature), b"200"),
        (raw(b"{}"), b"401"),
        (HEALTH, b"200"),
    ):
        writer.write(request)
        assert await status_line(reader) == status
    assert await hints(connection) == [("orders", "7")]
    writer.close()


WHOLE = raw(b"{}")


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE + WHOLE],
        [WHOLE[:40], WHOLE[40:] + WHOLE],
        [WHOLE[:-1], b"}" + WHOLE],
        # The body of the first looks like a request, and comes by itself.
        [raw(WHOLE)[: -len(WHOLE)], WHOLE, WHOLE],
    ],
)
async def test_forgeries_are_refused_one_by_one_however_they_are_cut(door: Door, pieces: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)  # So that each is a piece of its own when it comes.
    assert [await status_line(reader) for _ in range(2)] == [b"401", b"401"]
    writer.write(HEALTH)
    async with asyncio.timeout(10):
        rest = await reader.read()
    assert rest.startswith(b"HTTP/1.1 200"), rest
    assert rest.count(b"HTTP/1.1") == 1
    writer.close()


async def test_a_head_that_comes_in_pieces_is_one_request(door: Door) -> None:
    """What stands in a header is no request: a proxy would give the answer to somebody else."""
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nX: ".encode())
    await asyncio.sleep(0.05)  # So that it is a piece of its own when it comes.
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert await status_line(reader) == b"401"
    writer.write(HEALTH)
    async with asyncio.timeout(10):
        rest = await reader.read()
    assert rest.startswith(b"HTTP/1.1 200"), rest
    assert rest.count(b"HTTP/1.") == 1
    writer.close()


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\0b",
        ": nameless",
        "no colon",
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_not_refused_at_the_door(door: Door, line: str) -> None:
    """The server behind ends such a connection, so that nothing after it is taken for a request."""
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(raw(b"{}", "0" * 64, line))
    async with asyncio.timeout(10):
        answers = await reader.read()
    assert answers.startswith(b"HTTP/1.0 400")
    assert answers.count(b"HTTP/1.") == 1
    writer.close()


async def test_a_forgery_that_asks_for_it_is_the_last_on_its_connection(door: Door) -> None:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(raw(b"{}", "0" * 64, "Connection: close"))
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"Connection: close" in answer
    writer.close()


async def test_who_forges_and_does_not_read_the_answers_is_shut_out() -> None:
    refusal = Refusal(b"no" * 1_000_000)
    entrance = Entrance(lambda _: refusal, asyncio.Protocol)
    ours, forger = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(entrance, ours)
    reader, writer = await asyncio.open_connection(sock=forger)
    writer.write(WHOLE)
    got = 0
    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            while chunk := await reader.read(65_536):
                got += len(chunk)
    assert got < len(refusal.answer)
    assert entrance.open == set()
    writer.close()


async def test_connections_of_forgers_do_not_outlive_the_server(database_url: str) -> None:
    async with standing(database_url) as door:
        reader, writer = await asyncio.open_connection(door.host, door.port)
        writer.write(WHOLE)
        assert await status_line(reader) == b"401"
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", WHOLE])
async def test_a_connection_on_which_no_request_begins_is_closed(
    door: Door, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("sync.web.doorman._PATIENCE_S", 0.2)
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(said)
    with suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            await reader.read()
    writer.close()


async def test_a_crowd_is_kept_out_until_there_is_room_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.web.doorman._MOST_CONNECTIONS", 4)
    crowd = [await asyncio.open_connection(door.host, door.port) for _ in range(4)]
    for reader, writer in crowd[:2]:  # Of these the server knows, of the others the doorman.
        writer.write(HEALTH.replace(b"close", b"keep-alive"))
        assert await status_line(reader) == b"200"
    reader, writer = await asyncio.open_connection(door.host, door.port)
    with suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    writer.close()
    for _, left in crowd:
        left.close()
        await left.wait_closed()
    async with asyncio.timeout(10):
        while True:
            reader, writer = await asyncio.open_connection(door.host, door.port)
            with suppress(ConnectionError):
                writer.write(HEALTH)
                if (await reader.read()).startswith(b"HTTP/1.1 200"):
                    break
            writer.close()
    writer.close()


@pytest.mark.parametrize(
    "junk",
    [b"junk", b"\x16\x03\x01", b"GET /oauth/callback?code=canary" + b"a" * 9000, HEALTH[:-2] + b"no colon"],
)
async def test_what_is_no_http_leaves_no_line_in_the_log(
    door: Door, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(junk + b"\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
    writer.close()
    assert caplog.records == []
