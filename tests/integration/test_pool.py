"""The pool of connections when whoever used one is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

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
        killer = threading.Thread(target=lambda: asyncio.run(execute(database_url, end_backend)))
        killer.start()
        killer.join()
        user.cancel()
        [failure] = await asyncio.wait_for(asyncio.gather(user, return_exceptions=True), 10)
        assert failure is None or isinstance(failure, asyncio.CancelledError)
        async with asyncio.timeout(10), database.connection() as pooled:
            assert await pooled.fetchval("SELECT 1") == 1
        # Their frames would keep a failure alive, and only what is dead is told on.
        del user, failure
    gc.collect()
    assert strays == []
