"""Short forms of the long runs in tests/soak."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import StartSimulator
from tests.soak.kills import kill_often
from tests.soak.tokens import backfill_through_expiries


async def test_ten_deaths_inside_the_refresh_lose_no_consent(
    start_simulator: StartSimulator, database_url: str
) -> None:
    simulator = await start_simulator(orders_per_shop=1, products_per_shop=1, flash_sale_orders=0)
    assert await kill_often(database_url, simulator, kills=10) == []


async def test_a_backfill_outlasts_many_tokens_with_one_refresh_for_each(
    tmp_path: Path, database_url: str
) -> None:
    assert await backfill_through_expiries(tmp_path, database_url, seconds=3, per_second=3) == []
