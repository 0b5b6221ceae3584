"""The daemon's bell: it rings, and it ends without a word in any state of the event loop."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base

from sync.jobs.local import ringing


async def test_it_rings_at_once_and_again() -> None:
    bell = asyncio.Event()
    with ringing(bell, every_s=0.01):
        for _ in range(3):
            await asyncio.wait_for(bell.wait(), 10)
            bell.clear()


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)], ids=str)
async def test_it_rings_on_when_the_wall_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    class SetClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one is enough
            return datetime.now(tz) + jump

    bell = asyncio.Event()
    with ringing(bell, every_s=0.01):
        await asyncio.wait_for(bell.wait(), 10)
        monkeypatch.setattr(base, "datetime", SetClock)
        monkeypatch.setattr("sync.jobs.local.datetime", SetClock)
        for _ in range(3):
            bell.clear()
            await asyncio.wait_for(bell.wait(), 10)


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
