"""Values that are read once for many."""

from __future__ import annotations

import asyncio

from sync.web.readings import SharedReading


async def test_what_was_begun_before_a_change_is_not_shown_after_it() -> None:
    stored = "before"
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> str:
        found = stored
        reached.set()
        await go_on.wait()
        return found

    reading = SharedReading(read, keep_s=60.0)
    early = asyncio.create_task(reading.get(timeout_s=10))
    await reached.wait()
    stored = "after"
    reading.forget()
    late = asyncio.create_task(reading.get(timeout_s=10))
    go_on.set()
    assert [(await asked).value for asked in (early, late)] == ["after", "after"]
    assert (await reading.get(timeout_s=10)).value == "after"
    await reading.close()
