"""The process that refreshes tokens: it dies, its parent dies, Postgres dies, and no pair is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest

from sync.app import App, refresher_setup
from sync.engine.refresher_line import RefresherLine
from sync.errors import AppError, DatabaseError, NeedsReauthError, RequestError
from sync.simulator.server import RunningSimulator
from tests.conftest import StartSimulator
from tests.integration.hazards import wait_until_true
from tests.integration.store_probe import other_process
from tests.support import connected_app, environment_of, execute, make_settings

_REFRESH = "/api/v2/token/refresh"
_PATIENCE_S = 30
_GENERATION = "SELECT generation = $1 FROM sync.credentials"


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(shops=1, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)


@pytest.fixture
async def app(simulator: RunningSimulator, database_url: str) -> AsyncIterator[App]:
    async with connected_app(make_settings(database_url, simulator), simulator) as opened:
        yield opened


@pytest.fixture
async def credential_id(app: App, connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT min(credential_id) FROM sync.credentials"))


def refreshers(parent: int | None = None) -> list[psutil.Process]:
    """The refreshers that this process, or that one, has started."""
    children = psutil.Process(parent).children()
    return [child for child in children if "sync.engine.refresher" in child.cmdline()]


async def until(holds: Callable[[], object]) -> None:
    """Returns when it holds; whoever makes it so gives no sign."""
    async with asyncio.timeout(_PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def test_four_processes_with_a_hundred_tasks_each_ask_tiktok_once(
    app: App, simulator: RunningSimulator, database_url: str, credential_id: int
) -> None:
    before = await app.tokens.current(credential_id)
    simulator.change_options(latency_s=0.2)
    environment = environment_of(database_url, simulator.url, simulator.options)
    arguments = ("refresh", str(credential_id), "100")
    async with (
        other_process(*arguments, environment=environment) as one,
        other_process(*arguments, environment=environment) as two,
        other_process(*arguments, environment=environment) as three,
        other_process(*arguments, environment=environment) as four,
    ):
        processes = (one, two, three, four)
        assert [await process.hear() for process in processes] == ["ready"] * 4
        await asyncio.gather(*(process.tell("go") for process in processes))
        said = [[await process.hear() for _ in range(2)] for process in processes]
    assert said == [["1", str(before.generation + 1)]] * 4
    assert simulator.simulation.meter.token_refreshes == 1


async def test_a_refresher_that_is_killed_is_replaced_and_asked_again(
    app: App, simulator: RunningSimulator, credential_id: int
) -> None:
    first = await app.tokens.renew(credential_id, seen=1)
    (refresher,) = refreshers()
    # It dies before TikTok has heard of it: whoever asked does not notice.
    refresher.suspend()
    renewing = asyncio.create_task(app.tokens.renew(credential_id, seen=first.generation))
    await asyncio.sleep(0)
    refresher.kill()
    assert (await renewing).generation == first.generation + 1
    assert simulator.simulation.meter.token_refreshes == 2


async def test_a_refresher_that_stands_still_is_not_waited_for_for_ever(
    app: App, database_url: str, credential_id: int
) -> None:
    line = RefresherLine(refresher_setup(app.settings, database_url), longest_s=2)
    try:
        renewing = asyncio.create_task(line.refresh(credential_id, seen=1))
        await until(refreshers)
        (refresher,) = refreshers()
        refresher.suspend()
        with pytest.raises(RequestError, match=f"within 2 s from process {refresher.pid}"):
            await renewing
        refresher.resume()
        assert (await app.tokens.renew(credential_id, seen=1)).generation == 2
    finally:
        await line.close(within_s=_PATIENCE_S)


async def test_what_was_begun_is_stored_after_the_parent_was_killed(
    app: App,
    simulator: RunningSimulator,
    database_url: str,
    connection: asyncpg.Connection,
    credential_id: int,
) -> None:
    simulator.simulation.faults.add({"fault": "slow", "seconds": 0.5, "path": _REFRESH})
    environment = environment_of(database_url, simulator.url, simulator.options)
    async with other_process("refresh", str(credential_id), "1", environment=environment) as parent:
        assert await parent.hear() == "ready"
        await parent.tell("go")
        await until(lambda: simulator.simulation.meter.token_refreshes)
        (refresher,) = refreshers(parent.pid)
        await parent.kill()
        await wait_until_true(connection, _GENERATION, 2)
        await until(lambda: not refresher.is_running() or refresher.status() == psutil.STATUS_ZOMBIE)
    assert (await app.tokens.renew(credential_id, seen=1)).generation == 2


async def test_signals_to_the_parent_s_group_do_not_reach_the_refresher(
    app: App, simulator: RunningSimulator, credential_id: int
) -> None:
    simulator.simulation.faults.add({"fault": "slow", "seconds": 0.5, "path": _REFRESH})
    renewing = asyncio.create_task(app.tokens.renew(credential_id, seen=1))
    await until(lambda: simulator.simulation.meter.token_refreshes)
    (refresher,) = refreshers()
    assert os.getsid(refresher.pid) == refresher.pid
    # A service manager signals each process by itself.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        refresher.send_signal(number)
    assert (await renewing).generation == 2


async def test_an_orderly_end_leaves_no_refresher_behind(
    simulator: RunningSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        credential = await connection.fetchval("SELECT min(credential_id) FROM sync.credentials")
        await app.tokens.renew(credential, seen=1)
        assert len(refreshers()) == 1
    assert refreshers() == []


async def test_secrets_are_neither_in_its_arguments_nor_in_its_environment(
    app: App, simulator: RunningSimulator, credential_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSYNC_APP_SECRET", simulator.options.app_secret)
    await app.tokens.renew(credential_id, seen=1)
    (refresher,) = refreshers()
    shown = json.dumps([refresher.cmdline(), refresher.environ()])
    assert simulator.options.app_secret not in shown
    assert "SHOPSYNC" not in shown


async def test_a_folder_with_modules_of_its_own_lends_the_refresher_none(
    app: App, credential_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sync.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert (await app.tokens.renew(credential_id, seen=1)).generation == 2


async def test_a_pair_is_held_while_postgres_is_away_and_revives_what_was_condemned_meanwhile(
    app: App,
    simulator: RunningSimulator,
    server_url: str,
    connection: asyncpg.Connection,
    credential_id: int,
) -> None:
    simulator.simulation.faults.add({"fault": "slow", "seconds": 0.5, "path": _REFRESH, "times": 1})
    renewing = asyncio.create_task(app.tokens.renew(credential_id, seen=1))
    await until(lambda: simulator.simulation.meter.token_refreshes)
    name = await connection.fetchval("SELECT current_database()")
    # Gone for everybody but this test, which is in already.
    await execute(server_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(DatabaseError):
            await renewing
        # Meanwhile another process has found the old pair dead.
        await connection.execute("UPDATE sync.credentials SET needs_reauth = 'dead'")
        await connection.execute("UPDATE sync.shops SET state = 'needs_reauth'")
        assert await connection.fetchval(_GENERATION, 1)
    finally:
        await execute(server_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await wait_until_true(connection, _GENERATION, 2)
    assert await connection.fetchval("SELECT state FROM sync.shops") == "active"
    assert (await app.tokens.current(credential_id)).generation == 2
    assert simulator.simulation.meter.codes[36004005] == 0


async def test_a_seller_whose_refresh_hangs_keeps_no_other_waiting(
    start_simulator: StartSimulator, database_url: str, connection: asyncpg.Connection
) -> None:
    simulator = await start_simulator(shops=3, orders_per_shop=5, products_per_shop=2, flash_sale_orders=0)
    async with connected_app(make_settings(database_url, simulator), simulator) as app:
        hung, free = await connection.fetch("SELECT credential_id FROM sync.credentials ORDER BY 1")
        simulator.simulation.faults.add({"fault": "hang", "path": _REFRESH, "times": 1})
        waiting = asyncio.create_task(app.tokens.renew(hung[0], seen=1))
        await until(lambda: simulator.simulation.meter.token_refreshes)
        assert (await app.tokens.renew(free[0], seen=1)).generation == 2
        assert not waiting.done()
        waiting.cancel()


async def test_an_app_that_is_refused_condemns_nobody(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection, credential_id: int
) -> None:
    simulator.simulation.options = replace(simulator.options, app_secret="another one")
    with pytest.raises(AppError):
        await app.tokens.renew(credential_id, seen=1)
    assert await connection.fetchval("SELECT needs_reauth FROM sync.credentials") is None
    assert await connection.fetchval("SELECT state FROM sync.shops") == "active"


async def test_the_pair_of_before_is_tried_once_when_the_newest_is_unknown(
    app: App, simulator: RunningSimulator, connection: asyncpg.Connection, credential_id: int
) -> None:
    simulator.change_options(old_refresh_dies=False)
    renewed = await app.tokens.renew(credential_id, seen=1)
    del simulator.simulation.accounts._pairs[renewed.refresh_token]
    assert (await app.tokens.renew(credential_id, seen=2)).generation == 3
    simulator.simulation.accounts._pairs.clear()
    with pytest.raises(NeedsReauthError):
        await app.tokens.renew(credential_id, seen=3)
    assert await connection.fetchval("SELECT state FROM sync.shops") == "needs_reauth"


async def test_tokens_are_dated_by_tiktok_s_clock(
    app: App, simulator: RunningSimulator, credential_id: int
) -> None:
    simulator.simulation.faults.add({"fault": "clock_skew", "seconds": -86_400})
    skewed = await app.tokens.renew(credential_id, seen=1)
    offset_s = skewed.obtained_at.timestamp() - simulator.simulation.now()
    assert abs(offset_s) < 60
