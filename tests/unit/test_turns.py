"""Turns: nobody waits behind another's crowd, no seat is lost, and none is given twice."""

from __future__ import annotations

import asyncio
import random

import pytest

from sync.turns import Turns


class Bench:
    """Waiters that note the order in which they were let in, one seat at a time."""

    def __init__(self) -> None:
        self.turns = Turns(1)
        self.order: list[str] = []

    async def wait(self, name: str, *, urgent: bool = False) -> None:
        async with self.turns.take(name[0], urgent=urgent):
            self.order.append(name)

    async def play(self, *names: str, urgent: tuple[str, ...] = ()) -> list[str]:
        """The order in which they came, all having asked while the seat was taken."""
        async with asyncio.TaskGroup() as group, self.turns.take("the first"):
            for name in names:
                group.create_task(self.wait(name, urgent=name in urgent))
            await asyncio.sleep(0)
        return self.order


async def test_lanes_take_turns_and_each_keeps_its_order() -> None:
    assert await Bench().play("a1", "a2", "a3", "b1", "c1", "c2") == ["a1", "b1", "c1", "a2", "c2", "a3"]


async def test_urgent_waiters_come_first_and_take_turns_too() -> None:
    names = ("a1", "a2", "b1", "c1", "c2", "d1")
    assert await Bench().play(*names, urgent=("c1", "c2", "d1")) == ["c1", "d1", "c2", "a1", "b1", "a2"]


async def test_it_is_idle_while_nobody_waits_even_if_a_seat_is_taken() -> None:
    bench = Bench()
    async with bench.turns.take("a"):
        await asyncio.wait_for(bench.turns.wait_until_idle(), 1)
        waiter = asyncio.create_task(bench.wait("b"))
        idle = asyncio.create_task(bench.turns.wait_until_idle())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not idle.done()
    await asyncio.wait_for(asyncio.gather(waiter, idle), 1)


async def test_it_is_idle_until_more_wait_than_are_spare() -> None:
    turns = Turns(1, spare=1)
    idle = []

    async def wait() -> None:
        async with turns.take("a"):
            pass

    async with asyncio.TaskGroup() as group, turns.take("the first"):
        for _ in range(2):
            group.create_task(wait())
            await asyncio.sleep(0)
            look = group.create_task(turns.wait_until_idle())
            await asyncio.sleep(0)
            idle.append(look.done())
    assert idle == [True, False]


async def test_whoever_gives_up_waiting_leaves_the_seat_to_the_next() -> None:
    bench = Bench()
    async with bench.turns.take("the first"):
        quitter = asyncio.create_task(bench.wait("a"))
        stayer = asyncio.create_task(bench.wait("b"))
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.wait({quitter})
    await asyncio.wait_for(stayer, 1)
    assert bench.order == ["b"]


async def test_whoever_gives_up_as_the_seat_comes_passes_it_on() -> None:
    bench = Bench()
    seat = bench.turns.take("the first")
    await seat.__aenter__()
    quitter = asyncio.create_task(bench.wait("a"))
    stayer = asyncio.create_task(bench.wait("b"))
    await asyncio.sleep(0)
    await seat.__aexit__(None, None, None)  # The seat is the quitter's now, who has not run yet.
    quitter.cancel()
    await asyncio.wait_for(stayer, 1)
    assert (quitter.cancelled(), bench.order) == (True, ["b"])


@pytest.mark.parametrize("seed", range(20))
async def test_never_more_than_the_seats_and_none_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    seats = rng.randint(1, 4)
    turns = Turns(seats)
    inside = most = served = 0

    async def work(lane: str) -> None:
        nonlocal inside, most, served
        async with turns.take(lane, urgent=rng.random() < 0.3):
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(rng.randint(0, 3)):
                    await asyncio.sleep(0)
                served += 1
            finally:
                inside -= 1

    tasks = [asyncio.create_task(work(rng.choice("abc"))) for _ in range(60)]
    for task in tasks:
        for _ in range(rng.randint(0, 2)):
            await asyncio.sleep(0)
        if rng.random() < 0.3:
            task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert served == sum(not task.cancelled() for task in tasks) > 0
    assert 0 < most <= seats
    await asyncio.wait_for(asyncio.gather(*(work("z") for _ in range(seats))), 5)
    assert most <= seats
