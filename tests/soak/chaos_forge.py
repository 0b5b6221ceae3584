"""Starts shopsync processes by forking: real processes with real signals, without a second of imports each.

The parent has everything imported and does nothing else: no thread, no loop, no connection. A child runs the
real ``main()`` with its own arguments, environment, folder and files, and ends like any process. Its
lease may live shorter than thirty seconds, and all that hangs on that life in the same proportion; its
pages may be shorter as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

_ROOT = Path(__file__).parents[2]
_REAL_LIFE_S = 30.0
_LONGEST_END_S = 60.0


@dataclass(slots=True)
class Forged:
    """One process. ``code`` is negative after a signal, as everywhere."""

    forge: Forge
    pid: int
    arguments: tuple[str, ...]
    out: Path
    err: Path
    started: float = field(default_factory=time.monotonic)
    code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_running(self) -> bool:
        return self.code is None

    def send(self, number: signal.Signals) -> None:
        """The signal is on its way, if the process has not ended."""
        if self.is_running:
            self.forge.order(signal=int(number), pid=self.pid)

    async def finish(self, *, within_s: float = _LONGEST_END_S) -> int:
        """The exit code. Raises TimeoutError."""
        await asyncio.wait_for(self.ended.wait(), within_s)
        assert self.code is not None
        return self.code

    def said(self) -> str:
        """All that it printed and logged."""
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")


class Forge:
    """Starts processes and hears of their ends; see ``open_forge``."""

    def __init__(self, server: asyncio.subprocess.Process, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._started: asyncio.Future[int] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._unclaimed: dict[int, int] = {}
        self.processes: dict[int, Forged] = {}
        self.made = 0

    def move_to(self, folder: Path) -> None:
        """What is started from now on writes into that folder."""
        self._folder = folder
        self.processes.clear()

    def order(self, **values: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(values).encode() + b"\n")

    async def start(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        name: str,
        lease_life_s: float = _REAL_LIFE_S,
        page_rows: int | None = None,
    ) -> Forged:
        """A shopsync process with these arguments."""
        self.made += 1
        stem = f"{self.made:05}-{name}"
        out, err = self._folder / f"{stem}.out", self._folder / f"{stem}.err"
        for path in (out, err):
            path.touch()
        async with self._one_at_a_time:
            self._started = asyncio.get_running_loop().create_future()
            self.order(
                start=arguments,
                environment=dict(environment),
                life_s=lease_life_s,
                page_rows=page_rows,
                out=str(out),
                err=str(err),
                folder=str(self._folder),
            )
            pid = await self._started
        forged = Forged(self, pid, arguments, out, err)
        self.processes[pid] = forged
        if pid in self._unclaimed:
            self._end(forged, self._unclaimed.pop(pid))
        return forged

    async def listen(self) -> None:
        """Notes what the server tells, for ever."""
        assert self._server.stdout is not None
        while line := await self._server.stdout.readline():
            told = json.loads(line)
            if "started" in told:
                assert self._started is not None
                self._started.set_result(told["started"])
            elif (forged := self.processes.get(told["ended"])) is not None:
                self._end(forged, told["code"])
            else:
                self._unclaimed[told["ended"]] = told["code"]

    def _end(self, forged: Forged, code: int) -> None:
        forged.code = code
        forged.ended.set()

    async def kill_all(self) -> None:
        """Nothing that was started runs any more."""
        living = [forged for forged in self.processes.values() if forged.is_running]
        for forged in living:
            forged.send(signal.SIGKILL)
        for forged in living:
            await forged.finish()


@asynccontextmanager
async def open_forge(folder: Path) -> AsyncIterator[Forge]:
    """A forge whose processes write into the folder, until the context ends."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.soak.chaos_forge",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        # Ctrl-C is for whoever gives the orders.
        start_new_session=True,
    )
    forge = Forge(server, folder)
    listening = asyncio.create_task(forge.listen(), name="the forge's news")
    try:
        yield forge
    finally:
        with suppress(TimeoutError):
            await forge.kill_all()
        assert server.stdin is not None
        server.stdin.close()
        await server.wait()
        await listening


def serve_orders() -> None:
    """Forks and signals as told on stdin, tells of starts and ends on stdout, until stdin ends."""
    _import_all()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    orders = 0
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        selector.register(reader, selectors.EVENT_READ)
        rest = b""
        while True:
            for key, _ in selector.select():
                if key.fd == reader:
                    os.read(reader, 4096)
                    _reap(children)
                    continue
                if not (chunk := os.read(orders, 1 << 16)):
                    for pid in children:  # Whoever gave the orders has gone.
                        os.kill(pid, signal.SIGKILL)
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    _obey(json.loads(line), children)


def _obey(order: Mapping[str, Any], children: set[int]) -> None:
    if "signal" in order:
        # Only what was not reaped: the number may be somebody else's by now.
        if order["pid"] in children:
            os.kill(order["pid"], order["signal"])
        return
    pid = os.fork()
    if pid == 0:
        _live(order)
    children.add(pid)
    _tell(started=pid)


def _reap(children: set[int]) -> None:
    for pid in list(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children.discard(pid)
            _tell(ended=pid, code=os.waitstatus_to_exitcode(status))


def _tell(**values: object) -> None:
    os.write(1, json.dumps(values).encode() + b"\n")


def _import_all() -> None:
    import asyncpg.protocol.protocol  # noqa: F401  # Loaded late by its users.

    import sync.cli.main  # noqa: F401


def _live(order: Mapping[str, Any]) -> None:
    """The whole life of a child; never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(order["folder"])
        _put(os.devnull, 0, os.O_RDONLY)
        _put(order["out"], 1, os.O_WRONLY | os.O_APPEND)
        _put(order["err"], 2, os.O_WRONLY | os.O_APPEND)
        os.closerange(3, 256)
        sys.stdin, sys.stdout, sys.stderr = (_text(0, "r"), _text(1, "w"), _text(2, "w"))
        os.environ.clear()
        os.environ.update(order["environment"])
        _shorten_leases(order["life_s"])
        _shorten_pages(order["page_rows"])
        code = _run(order["start"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(arguments: Sequence[str]) -> int:
    from sync.cli.main import main

    sys.argv = ["shopsync", *arguments]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # As the interpreter ends with it.
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _shorten_leases(life_s: float) -> None:
    """All that hangs on the life of a lease is shorter by the same factor; and who writes can be told."""
    from sync.engine import fleet
    from sync.store import leases, pool

    factor = life_s / _REAL_LIFE_S
    for name in ("_LIFE_S", "_RENEW_EVERY_S", "_RESERVE_S"):
        setattr(leases, name, getattr(leases, name) * factor)
    fleet._AFTER_TAKEOVER_S *= factor
    pool._SESSION |= {
        "application_name": f"shopsync pid {os.getpid()}",
        "idle_in_transaction_session_timeout": f"{int(_REAL_LIFE_S * factor * 1000)}ms",
    }


def _shorten_pages(rows: int | None) -> None:
    """A page has no more rows, so that few rows make many transactions."""
    from sync.streams.registry import STREAMS

    for name in ("orders", "products") if rows else ():
        STREAMS[name] = dataclasses.replace(STREAMS[name], page_size=rows)


def _put(path: str, number: int, flags: int) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, number)
    os.close(opened)


def _text(number: int, mode: str) -> TextIO:
    # Line by line, as where a program's output goes to a person: what was said before a kill is there.
    return cast(TextIO, os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    serve_orders()
