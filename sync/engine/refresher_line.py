"""The line to the process that refreshes tokens: started when it is needed, and again when it dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from itertools import count

import msgspec

from sync.engine.refresher import KINDS, Order, Reply, Setup
from sync.errors import RequestError, SyncError

_STARTS = 3
# Longer than two token calls and the wait for another process's turn may take.
_LONGEST_S = 240.0


class _EndedError(Exception):
    """The process is gone; what it was asked for may or may not be done."""


class RefresherLine:
    """Asks the refresher of this process, and starts it where there is none."""

    def __init__(self, setup: Setup, *, longest_s: float = _LONGEST_S) -> None:
        self._setup = setup
        self._longest_s = longest_s
        self._child: _Child | None = None
        self._starting = asyncio.Lock()

    async def refresh(self, credential_id: int, *, seen: int) -> bool:
        """The stored tokens are newer than generation ``seen``; True when TikTok was asked for them.

        A refresher that dies is replaced and asked again: the generation tells it what is done.
        Raises what the refresh raised.
        """
        for _ in range(_STARTS):
            try:
                child = await self._running()
                return await child.ask(credential_id, seen, longest_s=self._longest_s)
            except _EndedError:
                continue
        raise RequestError("the process that refreshes tokens ended again and again: see what it said last")

    async def close(self, *, within_s: float) -> None:
        """The refresher has ended, or goes on alone with what it has begun."""
        if self._child is not None:
            await self._child.close(within_s)
            self._child = None

    async def _running(self) -> _Child:
        async with self._starting:
            if self._child is None or self._child.has_ended:
                self._child = await _Child.start(self._setup)
            return self._child


class _Child:
    """One life of the refresher."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        orders: asyncio.WriteTransport,
        replies: asyncio.StreamReader,
        hearing: asyncio.ReadTransport,
    ) -> None:
        self._process = process
        self._orders = orders
        self._replies = replies
        self._hearing = hearing
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._listening = asyncio.create_task(self._listen(), name="replies of the refresher")

    @classmethod
    async def start(cls, setup: Setup) -> _Child:
        """A refresher that has been told all it must know. Raises RequestError when none can be started."""
        try:
            process = _spawn()
        except OSError as error:
            raise RequestError(f"the process that refreshes tokens cannot be started: {error}") from error
        loop = asyncio.get_running_loop()
        orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        replies = asyncio.StreamReader()
        hearing, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(replies), process.stdout
        )
        orders.write(msgspec.json.encode(setup) + b"\n")
        return cls(process, orders, replies, hearing)

    @property
    def has_ended(self) -> bool:
        return self._listening.done() or self._orders.is_closing()

    async def ask(self, credential_id: int, seen: int, *, longest_s: float) -> bool:
        """True when it asked TikTok. Raises _EndedError when it is gone, RequestError after ``longest_s``."""
        if self.has_ended:
            raise _EndedError
        order = Order(next(self._numbers), credential_id, seen)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[order.number] = answer
        self._orders.write(msgspec.json.encode(order) + b"\n")
        try:
            async with asyncio.timeout(longest_s):
                return await answer
        except TimeoutError:
            raise RequestError(
                f"no new tokens within {longest_s:g} s from process {self._process.pid}, which refreshes "
                "them: where it stands still, continue or kill it"
            ) from None
        finally:
            self._waiting.pop(order.number, None)

    async def close(self, within_s: float) -> None:
        """It is told to end, and has ended or was left to itself."""
        self._orders.close()
        await asyncio.wait({self._listening}, timeout=within_s)
        self._listening.cancel()
        self._hearing.close()

    async def _listen(self) -> None:
        try:
            while line := await self._replies.readline():
                self._note(msgspec.json.decode(line, type=Reply))
            self._orders.close()
            await asyncio.to_thread(self._process.wait)
        finally:
            self._hearing.close()
            self._fail_all(_EndedError())

    def _note(self, reply: Reply) -> None:
        error = KINDS[reply.error](reply.message) if reply.error else None
        if reply.number is None:
            self._fail_all(error or _EndedError())
            return
        answer = self._waiting.get(reply.number)
        if answer is None or answer.done():
            return  # Whoever waited was cancelled, or has given up.
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(reply.refreshed)

    def _fail_all(self, error: SyncError | _EndedError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()


def _spawn() -> subprocess.Popen[bytes]:
    """The refresher, in a session of its own: what is sent to our group must not reach it."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHOPSYNC_")}
    # -P and our own path: a folder in which somebody stands must not lend it modules.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sync.engine.refresher"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=kept | {"PYTHONPATH": path},
        start_new_session=True,
    )
