"""Data that moves while it is read: whatever the seed, the copy is true once all is quiet."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.movement.scenario import draw
from tests.movement.stage import Stage, open_own_stage

# More of them, or others, with SHOPSYNC_TEST_SEEDS=500 or SHOPSYNC_TEST_SEEDS=4711-4720.
_CHOSEN = os.environ.get("SHOPSYNC_TEST_SEEDS", "20")


def _seeds(text: str) -> range:
    first, _, last = text.rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server_url: str, template: str) -> AsyncIterator[Stage]:
    async with open_own_stage(server_url, template) as opened:
        yield opened


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("seed", _seeds(_CHOSEN))
async def test_nothing_is_missing_stale_or_extra_after_data_moved_while_it_was_read(
    seed: int, stage: Stage
) -> None:
    run = await stage.set_up(draw(seed))
    wrong = await run.play()
    assert wrong == [], f"seed {seed}; again with SHOPSYNC_TEST_SEEDS={seed}-{seed}: {draw(seed)}"
