"""A search that shows more of its window than documented."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from sync.engine import plan
from tests.memory_shop import BEGIN_S, MemoryShop, spread

_SECONDS = 900


def make_shop(is_shown: Callable[[int, int, int], bool]) -> MemoryShop:
    """Several rows in each second, in a search with these bounds."""
    rng = random.Random(7)
    rows = spread(4_000, seconds=_SECONDS, choose=lambda seconds: rng.randrange(1, seconds))
    shop = MemoryShop(rows, now_s=BEGIN_S + _SECONDS + 400)
    shop.is_shown = is_shown
    return shop


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that many windows meet in the middle of the rows."""
    monkeypatch.setattr(plan, "LEAF_ROWS", 300)


@pytest.mark.parametrize(
    "is_shown",
    [
        lambda s, since, until: since <= s < until,
        lambda s, since, until: since <= s <= until,
    ],
    ids=["as documented", "with its end"],
)
def test_nothing_is_missing_whether_or_not_the_search_shows_the_end_of_its_window(
    is_shown: Callable[[int, int, int], bool],
) -> None:
    async def read() -> MemoryShop:
        shop = make_shop(is_shown)
        sync = await shop.read()
        assert sync.failures == []
        return shop

    shop = asyncio.run(read())
    assert len(shop.closings) > 3
    assert shop.wrong == {}
