"""Years of syncs on a clock that waits for nothing: what holds in every run, and what each rule is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.play import play
from tests.simulation.scenario import LONG_EVERY, draw

_ROOT = Path(__file__).parents[2]
# Sixty-one hours of thirty shops in each. `python -m tests.simulation` plays as many as one likes.
_LONG_RUNS = (0, 2, 7)
_SHOP_HOURS = 1_800
_DENSE_SHARDS = 3
_DENSE_RUNS = 4
_MOST_SEEDS = 16


@pytest.mark.parametrize("run", _LONG_RUNS)
def test_days_of_many_shops_lose_nothing(run: int) -> None:
    played = play(draw(run * LONG_EVERY))
    assert played.wrong is None, str(played)
    assert played.shop_hours >= _SHOP_HOURS


@pytest.mark.parametrize("shard", range(_DENSE_SHARDS))
def test_hours_of_many_faults_lose_nothing(shard: int) -> None:
    dense = [seed for seed in range(_DENSE_SHARDS * _DENSE_RUNS * 2) if seed % LONG_EVERY]
    for seed in dense[shard * _DENSE_RUNS : (shard + 1) * _DENSE_RUNS]:
        played = play(draw(seed))
        assert played.wrong is None, str(played)


# A first answer with a wrong date once made windows end in the future, and what came later was never read.
@pytest.mark.parametrize("seed", [27])
def test_what_once_went_wrong_does_not_again(seed: int) -> None:
    played = play(draw(seed))
    assert played.wrong is None, str(played)


@pytest.mark.parametrize("seed", [2, 7])
def test_the_same_seed_has_the_same_history_in_any_process(seed: int) -> None:
    here = [play(draw(seed, hours=0.3)) for _ in range(2)]
    code = (
        "from tests.simulation.play import play; from tests.simulation.scenario import draw;"
        f"print(play(draw({seed}, hours=0.3)).digest)"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {played.digest for played in here} == {there.stdout.strip()}
    assert here[0].digest != play(draw(seed + 1, hours=0.3)).digest


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_without_one_of_its_rules_a_run_goes_wrong_and_with_it_the_same_run_does_not(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(mutant.seed, mutant.seed + _MOST_SEEDS * LONG_EVERY, LONG_EVERY):
        scenario = draw(seed, **mutant.fixed)
        with monkeypatch.context() as patch:
            mutant.take_out(patch)
            caught = play(scenario).wrong is not None
        if caught:
            break
    else:
        pytest.fail(f"nobody misses {mutant} in {_MOST_SEEDS} runs")
    whole = play(scenario)
    assert whole.wrong is None, str(whole)
