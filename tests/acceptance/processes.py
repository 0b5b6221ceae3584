"""Real shopsync processes: started, watched, killed, and never caught telling a secret."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr

from sync.app import open_app
from sync.settings import load_settings
from sync.simulator.options import SimulatorOptions
from tests.secrecy import DATABASE_PASSWORD, secrets_in
from tests.support import ENCRYPTION_KEY, environment_of

SHOPSYNC = Path(sys.executable).with_name("shopsync")
OPTIONS = SimulatorOptions()
_LONGEST_LIFE_S = 180.0


async def until(
    holds: Callable[[], Awaitable[object]], what: str, *, within_s: float = 60, every_s: float = 0.05
) -> None:
    """Returns once the condition holds; fails the test when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(every_s)  # Another process changes it and gives no sign.


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines for people on stderr; log lines are JSON there."""
        return [line for line in self.err.splitlines() if line.strip() and not line.startswith("{")]


class Process:
    """One shopsync process. What it prints goes to files, so that no full pipe ever stops it."""

    def __init__(self, started: asyncio.subprocess.Process, out: Path, err: Path) -> None:
        self._started = started
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def is_running(self) -> bool:
        return self._started.returncode is None

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._started.send_signal(number)

    async def finish(self, *, within_s: float = _LONGEST_LIFE_S) -> Finished:
        """How it ended; fails the test when it does not end in time."""
        try:
            code = await asyncio.wait_for(self._started.wait(), within_s)
        except TimeoutError:
            raise AssertionError(f"still running after {within_s:g} s: {self.err[-2000:]}") from None
        return Finished(code, self.out, self.err)

    async def kill(self) -> None:
        """It is dead, however it ended."""
        if self.is_running:
            self._started.kill()
        await self._started.wait()


class Bench:
    """Starts processes in one environment and inspects everything they print."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._started: list[Process] = []
        self.environment = dict(environment)

    async def start(self, *arguments: str, **changes: str | None) -> Process:
        """A shopsync process; ``changes`` set or, with None, remove variables named SHOPSYNC_..."""
        environment = self.environment | {f"SHOPSYNC_{k}": v for k, v in changes.items() if v is not None}
        for name in [f"SHOPSYNC_{k}" for k, v in changes.items() if v is None]:
            environment.pop(name, None)
        number = len(self._started)
        out, err = self._folder / f"{number}.out", self._folder / f"{number}.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            started = await asyncio.create_subprocess_exec(
                SHOPSYNC, *arguments, stdout=to_out, stderr=to_err, env=environment, cwd=self._folder
            )
        process = Process(started, out, err)
        self._started.append(process)
        return process

    async def shopsync(self, *arguments: str, **changes: str | None) -> Finished:
        """What became of a command that ends by itself."""
        return await (await self.start(*arguments, **changes)).finish()

    async def close(self) -> None:
        """Every process is dead, and none of them told a secret or a traceback."""
        for process in self._started:
            await process.kill()
        for process in self._started:
            assert_discreet(process.out + process.err)


def assert_discreet(text: str) -> None:
    """Fails when the text holds a secret of these tests or a traceback."""
    assert secrets_in(text) == []
    assert "Traceback" not in text
    crashes = [line for line in text.splitlines() if '"exception"' in line and '"level": "error"' in line]
    assert crashes == [], "\n".join(crashes)


def with_password(url: str) -> str:
    """The address with a password in it that a server without password check ignores."""
    parts = urlsplit(url)
    if parts.password:
        return url
    user, _, rest = parts.netloc.rpartition("@")
    user = user.partition(":")[0] or "postgres"
    return parts._replace(netloc=f"{user}:{DATABASE_PASSWORD}@{rest}").geturl()


def bench_environment(database_url: str, simulator_url: str) -> dict[str, str]:
    """Where to sync from and to, with a short second look: the simulator shows a change at once."""
    return environment_of(with_password(database_url), simulator_url, OPTIONS) | {
        "SHOPSYNC_SETTLE_S": "0",
        "SHOPSYNC_LOOKBACK_S": "5",
        "SHOPSYNC_LOG_LEVEL": "debug",
        "SHOPSYNC_VERIFY_EVERY_S": "0",
        "SHOPSYNC_INTERVALS__ORDERS_S": "1",
        "SHOPSYNC_INTERVALS__PRODUCTS_S": "1",
        "SHOPSYNC_INTERVALS__INVENTORY_S": "1",
        # Nothing here speaks TLS, and to load the certificates is a tenth of a command's start.
        "SSL_CERT_FILE": os.devnull,
    }


async def page_of(process: Process) -> str:
    """The daemon's address once it says it runs."""

    async def serves() -> bool:
        assert process.is_running, process.err
        return "status page: http" in process.out

    await until(serves, "the daemon runs")
    match = re.search(r"status page: (\S+)", process.out)
    assert match is not None
    return match[1]


class Simulator:
    """A simulator in a process of its own, so that nothing here can disturb its clock."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, name: str) -> Any:
        async with self._session.get(f"{self.url}/_sim/{name}") as response:
            response.raise_for_status()
            return await response.json()

    async def post(self, name: str, **body: object) -> Any:
        async with self._session.post(f"{self.url}/_sim/{name}", json=body) as response:
            response.raise_for_status()
            return await response.json()

    async def shop_ids(self) -> list[str]:
        return [shop["shop_id"] for shop in (await self.get("truth"))["shops"]]

    async def requests(self) -> int:
        """Requests of all shops since the counts were reset."""
        return sum(shop["requests"] for shop in (await self.get("stats"))["shops"].values())

    async def worst_second(self) -> int:
        """The most requests of one shop that came within any second."""
        shops = (await self.get("stats"))["shops"]
        return max((shop["worst_second"] for shop in shops.values()), default=0)

    async def quiet_down(self) -> None:
        """Nothing changes any more, and the second of the last change is over."""
        await self.post("mutate", per_second=0)
        last = int(time.time())
        await until(_later_than(last), "the next second")


def _later_than(second: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return time.time() >= second + 1

    return holds


@asynccontextmanager
async def simulate(folder: Path, *arguments: str) -> AsyncIterator[Simulator]:
    """A simulator process with these options, until the context ends."""
    bench = Bench(folder, {})
    process = await bench.start("simulator", "--port", "0", *arguments)
    try:

        async def answers() -> bool:
            assert process.is_running, process.err
            return "answers at http" in process.out

        await until(answers, "the simulator answers")
        match = re.search(r"answers at (http://[\d.]+:\d+)", process.out)
        assert match is not None
        async with aiohttp.ClientSession() as session:
            yield Simulator(match[1], session)
    finally:
        await process.kill()


async def connect_sellers(database_url: str, simulator_url: str, *, which: slice = slice(None)) -> None:
    """The sellers of the simulator are connected, or some of them."""
    settings = load_settings(
        overrides={"api_url": simulator_url, "auth_url": simulator_url, "app_key": OPTIONS.app_key}
    ).model_copy(
        update={
            "database_url": SecretStr(database_url),
            "encryption_key": SecretStr(ENCRYPTION_KEY),
            "app_secret": SecretStr(OPTIONS.app_secret),
        }
    )
    async with aiohttp.ClientSession() as session, session.get(f"{simulator_url}/_sim/truth") as response:
        sellers = (await response.json())["sellers"]
    async with open_app(settings) as app:
        for seller in sellers[which]:
            await app.onboarding.connect(seller["codes"][0], app="default")
