"""Questions that come while one is under way go together, and the faults of one are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sync.errors import DatabaseError, DatabaseGoneError
from sync.store.together import Together


class Oracle:
    """Answers when told to, and knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.errors: dict[str, Exception] = {}

    async def work(self, items: Sequence[str]) -> list[str]:
        self.asked.append(list(items))
        await self.may_answer.wait()
        for item in items:
            if item in self.errors:
                raise self.errors[item]
        return [item.upper() for item in items]

    def together(self) -> Together[str, str]:
        return Together(self.work, key=lambda item: item[0])


async def ask(oracle: Oracle, *items: str) -> list[str | BaseException]:
    """The answers, where the first item was under way before the others came."""
    together = oracle.together()
    first = asyncio.create_task(together.ask(items[0]))
    while not oracle.asked:
        await asyncio.sleep(0)
    others = [asyncio.create_task(together.ask(item)) for item in items[1:]]
    await asyncio.sleep(0)
    oracle.may_answer.set()
    return list(await asyncio.gather(first, *others, return_exceptions=True))


async def test_what_comes_while_one_is_under_way_goes_together_next() -> None:
    oracle = Oracle()
    assert await ask(oracle, "a", "b", "c", "d") == ["A", "B", "C", "D"]
    assert oracle.asked == [["a"], ["b", "c", "d"]]


async def test_two_items_of_one_key_never_go_together() -> None:
    oracle = Oracle()
    assert await ask(oracle, "a", "b1", "b2", "c") == ["A", "B1", "B2", "C"]
    assert oracle.asked == [["a"], ["b1", "c"], ["b2"]]


async def test_an_error_reaches_only_whoever_caused_it() -> None:
    oracle = Oracle()
    oracle.errors["c"] = error = DatabaseError("no")
    assert await ask(oracle, "a", "b", "c", "d") == ["A", "B", error, "D"]


async def test_a_database_that_is_gone_is_not_asked_again_for_each() -> None:
    oracle = Oracle()
    oracle.errors["b"] = error = DatabaseGoneError("gone")
    assert await ask(oracle, "a", "b", "c", "d") == ["A", error, error, error]
    assert len(oracle.asked) == 2


async def test_one_who_gave_up_neither_asks_nor_keeps_others_waiting() -> None:
    oracle = Oracle()
    together = oracle.together()
    tasks = [asyncio.create_task(together.ask(item)) for item in ("a", "b", "c")]
    while not oracle.asked:
        await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    oracle.may_answer.set()
    assert await tasks[2] == "C"
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert oracle.asked[-1][-1] == "c"
    assert "b" not in oracle.asked[-1] or len(oracle.asked) == 1
