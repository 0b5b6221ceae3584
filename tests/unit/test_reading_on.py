"""Windows read by the engine where answers deceive: nothing may be taken for read that was not shown."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sync.engine.stream_sync import StreamSync
from sync.errors import PageTokenError
from sync.model import Page
from sync.streams.registry import STREAMS
from tests.memory_shop import BEGIN_S, MemoryShop, at, by_offset, by_time_alone, page_size, spread


def leaving(shop: MemoryShop, rng: random.Random, *, chance: float) -> Callable[[], None]:
    """Now and then a row is updated, and so leaves for the end."""

    def leave() -> None:
        if rng.random() < chance:
            shop.rows[rng.choice(list(shop.rows))] = int(shop.now_s)

    return leave


@pytest.mark.parametrize("stream", ["orders", "products"])
@pytest.mark.parametrize("seed", range(40))
async def test_rows_that_nobody_counts_are_all_read_though_others_leave(
    stream: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STREAMS, stream, page_size(stream, 5))
    rng = random.Random(seed)
    shop = MemoryShop(spread(40, seconds=100_000, choose=rng.randrange), now_s=BEGIN_S + 200_000)
    shop.before = leaving(shop, rng, chance=0.6)
    shop.count = lambda *_: None
    await shop.read(stream)
    quiet = await shop.read_in_quiet(stream)
    assert (shop.wrong, quiet.failures) == ({}, [])


@pytest.mark.parametrize("counts", [None, 0])
async def test_an_answer_without_anything_is_no_empty_shop(counts: int | None) -> None:
    shop = MemoryShop({i: BEGIN_S + 10 * i for i in range(500)}, now_s=BEGIN_S + 200_000)
    answers = iter([counts])

    def go_wrong_once(page: Page) -> Page:
        total = next(answers, page.total)
        return page if total == page.total else replace(page, records=(), next_token=None, total=total)

    shop.answer = go_wrong_once
    await shop.read()
    if counts is None:
        assert shop.wrong == {}
    else:
        assert shop.closings[0][1] == "clean"  # TikTok says that there is nothing: that is believed.


@pytest.mark.parametrize("parallel", [1, 8])
@pytest.mark.parametrize("rows_a_second", [1, 3, 10])
async def test_rows_that_hide_between_pages_are_found_however_walks_are_shared(
    rows_a_second: int, parallel: int
) -> None:
    rng = random.Random(rows_a_second)
    shop = MemoryShop(
        spread(8_000, seconds=8_000 // rows_a_second, choose=rng.randrange),
        now_s=BEGIN_S + 40_000,
        paging=by_time_alone,
    )
    await shop.read(parallel=parallel)
    assert shop.wrong == {}


@pytest.mark.parametrize("seed", range(10))
async def test_a_count_that_stands_still_for_no_reason_hides_no_row_from_shared_walks(seed: int) -> None:
    rng = random.Random(seed)
    shop = MemoryShop(spread(12_000, seconds=100_000, choose=rng.randrange), now_s=BEGIN_S + 200_000)
    shop.before = leaving(shop, rng, chance=0.02)
    counts: dict[str, int] = {}
    shop.count = lambda body, total: counts.setdefault(repr(body), total)
    await shop.read()
    await shop.read_in_quiet()
    assert shop.wrong == {}


@pytest.mark.parametrize("stream", ["orders", "products"])
async def test_tokens_that_do_not_live_as_long_as_a_walk_lead_to_shorter_walks(stream: str) -> None:
    def forget(
        rows: list[tuple[int, int]], token: str | None, size: int
    ) -> tuple[list[tuple[int, int]], str | None]:
        if int(token or 0) >= 5 * size:
            raise PageTokenError("invalid page_token")
        return by_offset(rows, token, size)

    rows = {i: BEGIN_S + 10 * i for i in range(3_000)}
    shop = MemoryShop(rows, now_s=BEGIN_S + 200_000, paging=forget)
    sync = await shop.read(stream)
    assert (shop.wrong, sync.failures) == ({}, [])


async def test_a_further_pass_that_takes_longer_than_the_interval_waits_without_turning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = 0
    wait = StreamSync._wait

    async def counted(self: StreamSync, event: asyncio.Event, **more: Any) -> None:
        nonlocal waits
        waits += 1
        await wait(self, event, **more)

    monkeypatch.setattr(StreamSync, "_wait", counted)
    shop = MemoryShop({i: BEGIN_S + i for i in range(12_000)}, now_s=BEGIN_S + 100_000)
    shop.turns = 50
    # Nobody else can read on, so nothing new is planned although it is due at once.
    sync = shop.make_sync("orders", parallel=1, unfinished=set(), interval_s=0)
    await asyncio.wait_for(sync.run(at(BEGIN_S), None, now=at(shop.now_s)), 20)
    assert shop.wrong == {}
    assert waits <= shop.requests * 2
