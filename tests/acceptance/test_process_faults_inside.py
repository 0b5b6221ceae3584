"""What goes wrong inside of a process: tasks that crash, a loop that stands still, clocks that jump."""

from __future__ import annotations

import asyncio
import time

import pytest

from sync.engine.consent_watch import ConsentWatch
from sync.jobs.stalls import watching_for_stalls
from sync.store import leases
from sync.store.leases import LeaseKeeper
from sync.store.tokens import Credentials
from tests.acceptance.conftest import RunHere
from tests.acceptance.processes import until
from tests.integration.store_probe import SHOP, hold


def shorten(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """A lease lives shorter, and all that hangs on that in proportion."""
    for name in ("_LIFE_S", "_RENEW_EVERY_S", "_RESERVE_S"):
        monkeypatch.setattr(leases, name, getattr(leases, name) * factor)


async def test_a_renewal_that_crashes_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shorten(monkeypatch, 0.01)
    renew, crashes = LeaseKeeper._renew, 0

    async def crash_at_first(self: LeaseKeeper) -> None:
        nonlocal crashes
        crashes += 1
        if crashes < 3:
            raise KeyError("a fault of ours")
        await renew(self)

    monkeypatch.setattr(LeaseKeeper, "_renew", crash_at_first)
    async with LeaseKeeper(database_url) as keeper:
        lease = await hold(keeper)
        taken_until = lease.good_until

        async def is_renewed() -> bool:
            return lease.good_until > taken_until or crashes > 6

        await until(is_renewed, "a renewal after the crashes", within_s=10, every_s=0.01)
        assert crashes >= 3


async def test_a_watch_that_crashes_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.engine.consent_watch._EVERY_S", 0.01)
    stopping, looks = asyncio.Event(), 0

    async def crash_at_first(self: ConsentWatch) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise KeyError("a fault of ours")
        stopping.set()

    monkeypatch.setattr(ConsentWatch, "look", crash_at_first)
    watch = ConsentWatch(Credentials.__new__(Credentials))
    await asyncio.wait_for(watch.run(stopping), 10)


async def test_a_lease_outlives_a_loop_that_stands_still(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """For ten seconds of the thirty, here for two of six, from just before it would have been renewed."""
    shorten(monkeypatch, 0.2)
    async with LeaseKeeper(database_url) as keeper:
        lease = await hold(keeper)
        asked = lease.good_until - (leases._LIFE_S - leases._RESERVE_S)

        async def is_almost_due() -> bool:
            return time.monotonic() > asked + 0.9 * leases._RENEW_EVERY_S

        await until(is_almost_due, "its renewal is almost due", every_s=0.01)
        stand_still(2.0)
        lease.check()
        taken_until = lease.good_until

        async def is_renewed() -> bool:
            return lease.good_until > taken_until

        await until(is_renewed, "it is renewed", within_s=10, every_s=0.01)
        async with LeaseKeeper(database_url) as other:
            assert await other.acquire(SHOP) is None


def test_a_result_for_which_there_is_no_room_is_one_line(run_here: RunHere) -> None:
    with pytest.MonkeyPatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr("sys.stdout", full)
        finished = run_here("--version")
    assert finished.code == 1


async def test_a_loop_that_stands_still_is_told_with_where_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with watching_for_stalls(noted_s=0.05):
        await asyncio.sleep(0)
        stand_still(0.5)
    said = capsys.readouterr()
    assert said.out.count("loop_stalled") + said.err.count("loop_stalled") == 1
    assert "in stand_still" in said.out + said.err


def stand_still(seconds: float) -> None:
    """The fault: nothing else runs meanwhile."""
    time.sleep(seconds)
