"""The rules that keep moving data whole: take one out, and the seeded runs find rows lost or turned back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.movement.mutants import MUTANTS, Mutant
from tests.movement.scenario import draw
from tests.movement.stage import Stage, open_own_stage

# A kill may hit a moment without harm: by measurement every third run or more shows the fault.
_MOST_SEEDS = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server_url: str, template: str) -> AsyncIterator[Stage]:
    async with open_own_stage(server_url, template) as opened:
        yield opened


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
async def test_without_one_of_its_rules_the_copy_is_wrong_and_with_it_the_same_run_is_true(
    mutant: Mutant, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(_MOST_SEEDS):
        scenario = draw(seed, **mutant.fixed)
        with monkeypatch.context() as patch:
            mutant.take_out(patch)
            wrong = await (await stage.set_up(scenario)).play()
        if wrong:
            break
    else:
        pytest.fail(f"nobody misses {mutant} in {_MOST_SEEDS} runs")
    whole = await (await stage.set_up(scenario)).play()
    assert whole == [], f"seed {seed} of {mutant}: {scenario}"
