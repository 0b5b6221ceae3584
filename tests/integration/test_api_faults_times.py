"""Update times that are wrong: none of them may keep a true version out, or let an old one in."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from sync.store.leases import Lease
from sync.store.page_writer import Target
from sync.store.sink import Sink
from tests.integration.store_probe import ORDERS, PRODUCTS, counts, order, page, product

_YEAR_S = 365 * 86_400
_CASES = pytest.mark.parametrize(("target", "make"), [(ORDERS, order), (PRODUCTS, product)])


@_CASES
async def test_a_time_far_in_the_future_keeps_no_true_version_out(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, target: Target, make: Any
) -> None:
    await sink.write(target, page([make("1", updated=_YEAR_S)], fetched=10), lease=lease)
    true = make("1", updated=60, status="TRUE")
    assert counts(await sink.write(target, page([true], fetched=70), lease=lease)) == {"updated": 1}
    assert await connection.fetchval(f"SELECT status FROM tiktok.{target.stream}") == "TRUE"
    assert counts(await sink.write(target, page([true], fetched=80), lease=lease)) == {"unchanged": 1}


@_CASES
async def test_a_true_version_that_was_asked_for_before_a_future_one_is_stale(
    sink: Sink, lease: Lease, target: Target, make: Any
) -> None:
    await sink.write(target, page([make("1", updated=_YEAR_S)], fetched=70), lease=lease)
    late = page([make("1", updated=5, status="OLD")], fetched=10)
    assert counts(await sink.write(target, late, lease=lease)) == {"stale": 1}


@_CASES
async def test_a_time_a_moment_ahead_of_its_answer_still_wins_over_older_ones(
    sink: Sink, lease: Lease, target: Target, make: Any
) -> None:
    """Clocks differ by seconds: no reason to believe an older version that is asked for later."""
    await sink.write(target, page([make("1", updated=15)], fetched=10), lease=lease)
    older = page([make("1", updated=5, status="OLD")], fetched=70)
    assert counts(await sink.write(target, older, lease=lease)) == {"stale": 1}


@_CASES
async def test_a_time_that_goes_backwards_changes_nothing(
    sink: Sink, lease: Lease, target: Target, make: Any
) -> None:
    """It cannot be told from a copy that lags behind; the next true change is newer than both."""
    await sink.write(target, page([make("1", updated=50)], fetched=60), lease=lease)
    back = page([make("1", updated=40, status="BACK")], fetched=70)
    assert counts(await sink.write(target, back, lease=lease)) == {"stale": 1}
    onward = page([make("1", updated=80, status="ON")], fetched=90)
    assert counts(await sink.write(target, onward, lease=lease)) == {"updated": 1}


@_CASES
@pytest.mark.parametrize("time", [None, 0, "", "soon", 10**17])
async def test_without_a_time_that_can_be_read_the_later_fetch_wins(
    sink: Sink, lease: Lease, connection: asyncpg.Connection, target: Target, make: Any, time: object
) -> None:
    await sink.write(target, page([make("1", updated=5)], fetched=10), lease=lease)
    await sink.write(target, page([make("1", update_time=time, status="LATER")], fetched=20), lease=lease)
    assert await connection.fetchval(f"SELECT status FROM tiktok.{target.stream}") == "LATER"
    earlier = page([make("1", update_time=time, status="EARLIER")], fetched=15)
    assert counts(await sink.write(target, earlier, lease=lease)) == {"stale": 1}
