"""Hypothesis moves a shop, its paging and its faults about: once it is quiet the copy is true."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.movement.scenario import Paging, draw
from tests.movement.stage import Run, Stage, open_stage

_EXAMPLES = int(os.environ.get("SHOPSYNC_TEST_EXAMPLES", "6"))
_STEPS = 8
# One at a time. What counts and shows wrongly at once can pass for any truth.
_FAULTS: tuple[dict[str, Any], ...] = (
    {"fault": "total_count_absent"},
    {"fault": "total_count_wrong", "delta": -1},
    {"fault": "total_count_wrong", "delta": 7},
    {"fault": "repeated_token", "probability": 0.5, "times": 10},
    {"fault": "lost_page_token", "probability": 0.5, "times": 10},
    {"fault": "empty_page_with_token", "probability": 0.5, "times": 10},
    {"fault": "duplicate_rows", "count": 2},
    {"fault": "hidden_row", "times": 2},
    {"fault": "reset_mid_body", "times": 3},
    {"fault": "page_size_ignored", "size": 2},
)


class MovingShop(RuleBasedStateMachine):
    """A shop that is read while it changes; the stage and its loop outlive the examples."""

    def __init__(self, stage: Stage, runner: asyncio.Runner) -> None:
        super().__init__()
        self._stage = stage
        self._runner = runner
        self._run: Run | None = None

    @property
    def run_(self) -> Run:
        assert self._run is not None
        return self._run

    @initialize(
        seed=st.integers(0, 10**6),
        paging=st.sampled_from(("offset", "keyset", "snapshot")),
        lag_s=st.sampled_from((0.0, 5.0, 19.0)),
        parallel=st.sampled_from((1, 4)),
    )
    def open_shop(self, seed: int, paging: Paging, lag_s: float, parallel: int) -> None:
        scenario = draw(
            seed, orders=60, products=10, paging=paging, lag_s=lag_s, parallel=parallel, faults=()
        )
        self._run = self._runner.run(self._stage.set_up(scenario))

    @rule(changes=st.integers(1, 30))
    def change_anything(self, changes: int) -> None:
        self.run_.mover.stir(changes)

    @rule(rows=st.integers(1, 25), start=st.integers(0, 40))
    def update_many_orders_in_one_second(self, rows: int, start: int) -> None:
        for order_id in sorted(self.run_.shop.orders.newest)[start : start + rows]:
            self.run_.mover.touch_order(order_id)

    @rule(seconds=st.sampled_from((0.4, 3.0, 30.0, 86_400.0)))
    def let_time_pass(self, seconds: float) -> None:
        self._stage.clock.advance(seconds)

    @rule(paging=st.sampled_from(("offset", "keyset", "snapshot")))
    def page_in_another_way(self, paging: Paging) -> None:
        self._stage.simulator.change_options(paging=paging)

    @rule(fault=st.sampled_from(_FAULTS))
    def go_wrong(self, fault: dict[str, Any]) -> None:
        self._stage.simulator.simulation.faults.remove()
        self._stage.simulator.simulation.faults.add(dict(fault))

    @rule()
    def go_right(self) -> None:
        self._stage.simulator.simulation.faults.remove()

    @rule()
    def sync(self) -> None:
        self._runner.run(self.run_.sync())

    @rule(requests=st.integers(1, 30))
    def kill_a_sync(self, requests: int) -> None:
        self._runner.run(self.run_.sync(kill_after=requests))

    @rule()
    def compare_in_quiet(self) -> None:
        assert self._runner.run(self.run_.judge()) == []
        self.run_.mover.is_moving = True

    def teardown(self) -> None:
        if self._run is not None:
            self.compare_in_quiet()


def test_however_a_shop_moves_and_fails_the_copy_is_true_once_it_is_quiet(database_url: str) -> None:
    with asyncio.Runner() as runner:
        stages = open_stage(database_url)
        stage = runner.run(stages.__aenter__())

        class OnStage(MovingShop):
            def __init__(self) -> None:
                super().__init__(stage, runner)

        try:
            run_state_machine_as_test(
                OnStage,
                settings=settings(
                    max_examples=_EXAMPLES,
                    stateful_step_count=_STEPS,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stages.__aexit__(None, None, None))
