"""The pool of connections when a link breaks, or whoever used one is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import asyncpg
import pytest

from sync.store.pool import Database
from tests.support import execute


@pytest.mark.parametrize("turns", range(6))
async def test_a_broken_connection_that_a_cancelled_user_gives_back_is_no_stray_error(
    database_url: str, turns: int
) -> None:
    strays: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
    async with Database(database_url, size=1) as database:
        backend: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        may_end = asyncio.Event()

        async def use() -> None:
            async with database.connection() as pooled:
                backend.set_result(pooled.get_server_pid())
                await may_end.wait()

        user = asyncio.create_task(use())
        end_backend = f"SELECT pg_terminate_backend({await backend}, 5000)"
        may_end.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        # The loop is held up meanwhile, so that the connection looks well to whoever gives it back.
        _execute_elsewhere(database_url, end_backend)
        user.cancel()
        [failure] = await asyncio.wait_for(asyncio.gather(user, return_exceptions=True), 10)
        assert failure is None or isinstance(failure, asyncio.CancelledError)
        async with asyncio.timeout(10), database.connection() as pooled:
            assert await pooled.fetchval("SELECT 1") == 1
        # Their frames would keep a failure alive, and only what is dead is told on.
        del user, failure
    gc.collect()
    assert strays == []


@pytest.mark.parametrize("turns", range(6))
async def test_a_process_that_was_stopped_until_its_session_was_ended_begins_the_transaction_anew(
    database_url: str, turns: int
) -> None:
    attempts = 0

    async def work(connection: asyncpg.Connection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            return int(await connection.fetchval("SELECT 1"))
        answer = asyncio.create_task(connection.fetchval("SELECT 1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        # The loop stands still. It finds the answer, the farewell and the end of the session together.
        end_backend = f"SELECT pg_terminate_backend({connection.get_server_pid()}, 5000)"
        _execute_elsewhere(database_url, end_backend)
        return int(await answer)

    async with Database(database_url, size=1) as database:
        assert await asyncio.wait_for(database.transact(work), 10) == 1
    assert attempts == 2


def _execute_elsewhere(database_url: str, statement: str) -> None:
    """The statement was executed while this thread, and its loop, waited."""
    other = threading.Thread(target=lambda: asyncio.run(execute(database_url, statement)))
    other.start()
    other.join()
