"""The daemon's bell: it rings, and it ends without a word in any state of the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from sync.jobs.local import ringing


async def test_it_rings_at_once_and_again() -> None:
    bell = asyncio.Event()
    with ringing(bell, every_s=0.01):
        for _ in range(3):
            await asyncio.wait_for(bell.wait(), 10)
            bell.clear()


@pytest.mark.parametrize("turns", range(8))
async def test_an_end_just_as_it_rings_is_no_error(caplog: pytest.LogCaptureFixture, turns: int) -> None:
    bell = asyncio.Event()
    with ringing(bell, every_s=0.01):
        await bell.wait()
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is held up, so that the next ring is due at once
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.sleep(0.03)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []
