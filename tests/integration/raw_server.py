"""A server below HTTP, which does exactly what a test tells it to do with each request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

GOOD = b'{"code":0,"message":"Success","data":{"orders":[]}}'

Writer = asyncio.StreamWriter
Behave = Callable[["Seen", Writer], Awaitable[None]]


@dataclass(slots=True)
class Seen:
    """One request as it arrived; ``nth`` counts those on its connection."""

    line: str
    headers: dict[str, str]
    body: bytes
    nth: int
    query: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        target = self.line.split(" ")[1]
        self.query = {k: v[0] for k, v in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}


def reply(
    body: bytes = GOOD, *, status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


@asynccontextmanager
async def server(behave: Behave) -> AsyncIterator[tuple[str, list[Seen]]]:
    """A server that does exactly what it is told with each request; its address, and what it has seen."""
    seen: list[Seen] = []
    async with serve_connections(behave, seen) as port:
        yield f"http://127.0.0.1:{port}", seen


@asynccontextmanager
async def serve_connections(
    behave: Behave, seen: list[Seen], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """The port of such a server, which adds what it has seen to the list."""

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            for nth in range(1, 10_000):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *rest = head.strip().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (one.partition(":") for one in rest)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                seen.append(Seen(line, headers, body, nth))
                await behave(seen[-1], writer)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def always(answer: bytes) -> Behave:
    async def behave(_: Seen, writer: Writer) -> None:
        writer.write(answer)
        await writer.drain()

    return behave
