"""A wire that breaks on demand: a proxy between what is tested and its Postgres, or its API.

    async with postgres_proxy(database_url, CutRule(seed=3, chances={"after_commit": 0.2})) as proxy:
        ...  # connect to proxy.url
        proxy.cuts["after_commit"]  # how often that struck

By hand: ``cut``, ``hold`` and ``let_go`` (a dead link on which nothing moves), ``is_refusing``,
``delay_s`` and ``segment_bytes``. All of it may change while connections are open.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import parse_qs, urlsplit

# Where a link to Postgres can be cut. "after_": the server has done it, and the client never hears.
# A commit is COMMIT by itself; a statement is everything else that was asked for, if by no COMMIT
# then committed as well.
Moment = Literal["before_commit", "after_commit", "after_statement", "in_rows"]

_CHUNK_BYTES = 1 << 16
_NO_ENCRYPTION = b"N"
_ENCRYPTION_WISHES = (80877103, 80877104)
# The server's sign that all it was asked for is done.
_READY = b"Z"
_ROW = b"D"


@dataclass(slots=True)
class CutRule:
    """Which moments are cut: each with a chance, or the n-th (from 1), or both.

    Every moment draws from the seed for itself, so that one does not shift the draws of another.
    ``application`` limits it to the connections of that application_name.
    """

    seed: int = 1
    chances: Mapping[Moment, float] = field(default_factory=dict)
    nth: Mapping[Moment, Iterable[int]] = field(default_factory=dict)
    application: str | None = None
    seen: Counter[Moment] = field(default_factory=Counter)
    _draws: dict[Moment, random.Random] = field(init=False)

    def __post_init__(self) -> None:
        self._draws = {moment: random.Random(f"{self.seed} {moment}") for moment in get_args(Moment)}

    def strikes(self, moment: Moment, application: str) -> bool:
        """Whether this one is cut; asking counts it."""
        if self.application not in (None, application):
            return False
        self.seen[moment] += 1
        is_drawn = self._draws[moment].random() < self.chances.get(moment, 0)
        return is_drawn or self.seen[moment] in self.nth.get(moment, ())


Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Connect = Callable[[], Awaitable[tuple[Reader, Writer]]]


class Proxy:
    """Forwards every connection made to ``port`` while the context is open."""

    def __init__(self, connect: Connect, *, rule: CutRule | None = None, is_postgres: bool = False) -> None:
        self.rule = rule or CutRule()
        self.delay_s = 0.0
        self.segment_bytes: int | None = None
        self.is_refusing = False
        self.cuts: Counter[str] = Counter()
        self.made = 0
        self.url = ""
        self.port = 0
        self.flows = asyncio.Event()
        self.flows.set()
        self.connect = connect
        self._is_postgres = is_postgres
        self._links: set[_Link] = set()

    @property
    def open_links(self) -> int:
        """Connections that are forwarded at this moment."""
        return len(self._links)

    def cut(self, *, reset: bool = True, application: str | None = None) -> int:
        """Every connection, or those of one application_name, is cut; returns how many.

        With ``reset`` the ends hear RST, else FIN after what was sent before.
        """
        chosen = [link for link in self._links if application in (None, link.application)]
        for link in chosen:
            link.cut(reset=reset)
            self.cuts["asked"] += 1
        return len(chosen)

    def hold(self) -> None:
        """Nothing moves any more in either direction, and nobody is told; connecting works."""
        self.flows.clear()

    def let_go(self) -> None:
        """What was held back arrives, and everything moves again."""
        self.flows.set()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """One connection was forwarded from its beginning to its end."""
        self.made += 1
        link = _PostgresLink(self, reader, writer) if self._is_postgres else _Link(self, reader, writer)
        if self.is_refusing:
            link.cut()
            return
        self._links.add(link)
        await link.last()
        self._links.remove(link)

    async def close(self) -> None:
        """No connection is left."""
        for link in self._links:
            link.cut()
        while self._links:
            await asyncio.sleep(0)


class _Link:
    """One connection: bytes in, the same bytes out."""

    application = ""

    def __init__(self, proxy: Proxy, reader: Reader, writer: Writer) -> None:
        self.proxy = proxy
        self.reader = reader
        self.writer = writer
        self.server_writer: Writer | None = None
        self._is_cut = asyncio.Event()

    def cut(self, *, reset: bool = True) -> None:
        for writer in (self.writer, self.server_writer):
            if writer is None or writer.transport.is_closing():
                continue
            if reset:
                given = writer.get_extra_info("socket")
                if given.family != socket.AF_UNIX:
                    given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        self._is_cut.set()

    async def last(self) -> None:
        """Returns when the connection is over, whoever ended it."""
        forwarding = asyncio.ensure_future(self.forward())
        cutting = asyncio.ensure_future(self._is_cut.wait())
        await asyncio.wait([forwarding, cutting], return_when=asyncio.FIRST_COMPLETED)
        for task in (forwarding, cutting):
            task.cancel()
        await asyncio.gather(forwarding, cutting, return_exceptions=True)
        self.cut(reset=False)

    async def forward(self) -> None:
        """Both directions, until one of them ends."""
        await self.proxy.flows.wait()
        server, self.server_writer = await self.proxy.connect()
        pumps = [
            asyncio.ensure_future(self.pump(self.reader, self.server_writer, to_server=True)),
            asyncio.ensure_future(self.pump(server, self.writer, to_server=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def pump(self, source: Reader, target: Writer, *, to_server: bool) -> None:
        while chunk := await source.read(_CHUNK_BYTES):
            await self.send(target, chunk)
            await self.proxy.flows.wait()

    async def send(self, target: Writer, chunk: bytes) -> None:
        """The chunk was sent, as late and in as small pieces as the proxy wants it."""
        if self.proxy.delay_s:
            await asyncio.sleep(self.proxy.delay_s)
        await self.proxy.flows.wait()
        size = self.proxy.segment_bytes or len(chunk)
        for start in range(0, len(chunk), size):
            target.write(chunk[start : start + size])
            await target.drain()
            if size < len(chunk):
                await asyncio.sleep(0)  # Else the pieces leave together.


class _PostgresLink(_Link):
    """Knows where messages begin, and cuts where the rule says."""

    # What the client is waiting for, and never gets to hear.
    _unheard: Moment | None = None

    async def forward(self) -> None:
        await self.proxy.flows.wait()
        while True:
            head = await self.reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            if code not in _ENCRYPTION_WISHES:
                break
            self.writer.write(_NO_ENCRYPTION)
        self._greeting = head + await self.reader.readexactly(length - 8)
        words = self._greeting[8:].decode().split("\0")
        self.application = dict(zip(words[::2], words[1::2], strict=False)).get("application_name", "")
        await super().forward()

    async def pump(self, source: Reader, target: Writer, *, to_server: bool) -> None:
        if to_server:
            await self.send(target, self._greeting)
        while True:
            head = await source.readexactly(5)
            message = head + await source.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            await (self._ask(target, message) if to_server else self._answer(target, message))
            await self.proxy.flows.wait()

    async def _ask(self, target: Writer, message: bytes) -> None:
        kind = message[:1]
        is_commit = kind == b"Q" and message[5:].upper().startswith(b"COMMIT")
        if is_commit and self._strikes("before_commit"):
            return self._strike("before_commit")
        if is_commit and self._strikes("after_commit"):
            self._unheard = "after_commit"
        elif kind in (b"Q", b"S") and not is_commit and self._strikes("after_statement"):
            self._unheard = "after_statement"
        return await self.send(target, message)

    async def _answer(self, target: Writer, message: bytes) -> None:
        kind = message[:1]
        if self._unheard is not None:
            if kind == _READY:
                self._strike(self._unheard)
        elif kind == _ROW and self._strikes("in_rows"):
            await self.send(target, message[: len(message) // 2])
            self._strike("in_rows")
        else:
            await self.send(target, message)

    def _strikes(self, moment: Moment) -> bool:
        return self.proxy.rule.strikes(moment, self.application)

    def _strike(self, moment: Moment) -> None:
        self.proxy.cuts[moment] += 1
        self.cut()


@asynccontextmanager
async def postgres_proxy(url: str, rule: CutRule | None = None) -> AsyncIterator[Proxy]:
    """A proxy to that database; its ``url`` leads to the same database through it."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host", [""])[0]
    port = parts.port or 5432

    async def connect() -> tuple[Reader, Writer]:
        if folder.startswith("/"):
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        return await asyncio.open_connection(parts.hostname or folder, port)

    async with _listening(Proxy(connect, rule=rule, is_postgres=True)) as proxy:
        user = parts.netloc.rpartition("@")[0] or "postgres"
        proxy.url = parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}", query="").geturl()
        yield proxy


@asynccontextmanager
async def http_proxy(url: str) -> AsyncIterator[Proxy]:
    """A proxy to that API; its ``url`` is where to ask instead."""
    parts = urlsplit(url)

    async def connect() -> tuple[Reader, Writer]:
        return await asyncio.open_connection(parts.hostname, parts.port)

    async with _listening(Proxy(connect)) as proxy:
        proxy.url = parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
        yield proxy


@asynccontextmanager
async def _listening(proxy: Proxy) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
