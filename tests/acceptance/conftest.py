"""Processes for the acceptance tests."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sync.cli.main import main
from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench, Finished, assert_discreet, bench_environment, connect_sellers
from tests.conftest import StartSimulator
from tests.support import logging_restored

RunHere = Callable[..., Finished]


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    """Two sellers' shops, in this process: a test may change them as it likes."""
    return await start_simulator(shops=3, orders_per_shop=300)


@pytest.fixture
async def bench(tmp_path: Path, database_url: str, simulator: RunningSimulator) -> AsyncIterator[Bench]:
    """Processes that sync from the simulator; no shop is connected yet."""
    opened = Bench(tmp_path, bench_environment(database_url, simulator.url))
    yield opened
    await opened.close()


@pytest.fixture
async def connected(bench: Bench, database_url: str, simulator: RunningSimulator) -> Bench:
    """The same with every shop of the simulator connected."""
    await connect_sellers(database_url, simulator.url)
    return bench


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RunHere]:
    """Runs commands in this process, which is enough for those that end before they open anything.

    What is ``typed`` are lines of stdin; the rest is as in ``Bench``. No address leads anywhere.
    """

    def run(*arguments: str, typed: Sequence[str] = (), **changes: str | None) -> Finished:
        nowhere = bench_environment("postgresql://127.0.0.1:1/none", "http://127.0.0.1:1")
        environment = nowhere | {f"SHOPSYNC_{name}": value for name, value in changes.items()}
        with monkeypatch.context() as patched:
            for name in [name for name in os.environ if name.startswith("SHOPSYNC_")]:
                patched.delenv(name)
            for name, value in environment.items():
                if value is None:
                    patched.delenv(name, raising=False)
                else:
                    patched.setenv(name, value)
            patched.chdir(tmp_path)
            patched.setattr(sys, "argv", ["shopsync", *arguments])
            patched.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert_discreet(said.out + said.err)
        assert isinstance(ended.value.code, int)
        return Finished(ended.value.code, said.out, said.err)

    with logging_restored():
        yield run
