"""What the doctor makes of TikTok Shop's answers."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import pytest

from sync.engine.provider_checkup import check_consent_end, check_host, compare_shops
from sync.model import AuthorizedShop, Shop
from sync.store.shops import ShopRow
from tests.integration.raw_server import always, reply, server

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead_s", "level", "says"),
    [
        (0, "ok", "agrees"),
        (20, "warning", "s ahead of"),
        (-20, "warning", "s behind"),
        (3600, "problem", "s ahead of"),
        (-3600, "problem", "s behind"),
    ],
)
async def test_a_clock_that_is_off_is_told(ahead_s: int, level: str, says: str) -> None:
    date = formatdate(time.time() - ahead_s, usegmt=True)
    async with server(always(reply(status="404 Not Found", headers=f"Date: {date}\r\n"))) as (url, seen):
        findings, answers = await check_host(url)
    assert answers
    assert len(seen) == 1
    assert (findings[1].area, findings[1].level) == ("clock", level)
    assert says in findings[1].what


async def test_a_host_that_tells_no_time_is_not_suspected() -> None:
    async with server(always(reply())) as (url, _):
        findings, answers = await check_host(url)
    assert answers
    assert [finding.level for finding in findings] == ["ok"]


async def test_a_host_that_is_away_is_a_problem() -> None:
    with socket.socket() as taken:  # Bound and not listening: a connection is refused for certain.
        taken.bind(("127.0.0.1", 0))
        findings, answers = await check_host(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert not answers
    assert [finding.level for finding in findings] == ["problem"]


@pytest.mark.parametrize(
    ("days", "level"), [(31, "ok"), (29, "warning"), (1, "warning"), (0, "problem"), (-5, "problem")]
)
def test_the_end_of_a_consent_is_warned_about_for_30_days(days: int, level: str) -> None:
    finding = check_consent_end("Example", NOW + timedelta(days=days), connect="connect", now=NOW)
    assert finding.level == level
    assert bool(finding.todo) == (level != "ok")


def row(shop_id: str, cipher: str = "c") -> ShopRow:
    shop = Shop(
        shop_id=shop_id, name="", region="US", app="default", credential_id=1, cipher=cipher, state="active",
        granted_scopes=frozenset(),
    )  # fmt: skip
    return ShopRow(
        shop=shop, state_reason=None, state_since=NOW, seller_name="Example", connected_at=NOW,
        refresh_expires_at=NOW,
    )  # fmt: skip


def there(shop_id: str, cipher: str = "c") -> AuthorizedShop:
    return AuthorizedShop(shop_id=shop_id, name="", region="US", seller_type="LOCAL", code="", cipher=cipher)


def test_shops_are_compared_with_what_the_consent_reaches() -> None:
    def told(rows: list[ShopRow], reached: list[AuthorizedShop]) -> list[tuple[str, str]]:
        found = compare_shops(rows, reached, name="Example", connect="connect")
        return [(finding.level, finding.what) for finding in found]

    assert told([row("1")], [there("1")]) == [("ok", "Example: the access token works for 1 shop")]
    (gone,) = told([row("1")], [])
    assert gone[0] == "problem"
    assert "not reached" in gone[1]
    (renewed,) = told([row("1", "canary-old")], [there("1", "canary-new")])
    assert renewed[0] == "warning"
    assert "canary" not in renewed[1]
    (stranger,) = told([row("1")], [there("1"), there("2")])
    assert stranger[0] == "ok"
    assert "not connected: 2" in stranger[1]
