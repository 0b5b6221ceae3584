"""What the status page tells a person."""

from __future__ import annotations

import html
import re

import pytest

from tests.web_probe import Browser, Serve, Shops

pytest_plugins = ("tests.web_fixtures",)


def seen(page: str) -> str:
    """The text as a reader sees it."""
    body = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", body).split()))


def headline(page: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page)
    assert found is not None
    return html.unescape(found[1])


async def test_the_page_says_in_one_line_that_all_shops_are_up_to_date(serve: Serve, shops: Shops) -> None:
    for number in range(5):
        await shops.add(f"77{number}", f"Shop {number}")
    page = (await (await serve()).get("/")).text
    assert headline(page) == "All 5 shops are up to date"
    assert '<meta http-equiv="refresh" content="10">' in page


async def test_without_a_shop_the_page_says_how_to_connect_one(serve: Serve, shops: Shops) -> None:
    page = (await (await serve()).get("/")).text
    assert headline(page) == "No shop is connected yet"
    assert "shopsync shops connect" in seen(page)


async def test_the_shop_that_needs_a_new_consent_stands_first_and_is_said_to(
    serve: Serve, shops: Shops
) -> None:
    for number in range(4):
        await shops.add(f"77{number}", f"Shop {number}")
    await shops.add("779", "Locked Out", state="needs_reauth", reason="refresh token invalid")
    page = (await (await serve()).get("/")).text
    assert headline(page) == "1 of 5 shops needs you"
    assert page.index("Locked Out") < page.index("Shop 0")
    assert "refresh token invalid shopsync shops connect" in seen(page)


async def test_a_parked_stream_needs_somebody_and_says_why(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.add("772", "Two")
    await shops.change("772", "warehouses", "parked_reason = 'scope not granted', failures = 1")
    page = (await (await serve()).get("/")).text
    assert headline(page) == "1 of 2 shops needs you"
    assert "warehouses: parked, tried again every hour scope not granted" in seen(page)


async def test_a_stream_that_fails_now_and_then_is_worth_a_look_only(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.change("771", "orders", "failures = 2, last_error = 'no answer in time'")
    page = (await (await serve()).get("/")).text
    assert headline(page) == "The shop is worth a look"
    assert "orders: failed 2 times in a row, tried again by itself no answer in time" in seen(page)


async def test_a_stream_that_has_fallen_behind_without_an_error_shows_as_late(
    serve: Serve, shops: Shops
) -> None:
    await shops.add("771", "One")
    await shops.change("771", "orders", "synced_until = now() - interval '3 hours 5 min'")
    page = seen((await (await serve()).get("/")).text)
    assert "orders late 3 h 5 min ago" in page


async def test_a_paused_shop_does_not_disturb_the_headline(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.add("772", "Two", state="paused")
    page = (await (await serve()).get("/")).text
    assert headline(page) == "The shop is up to date"
    assert "shopsync shops resume 772" in seen(page)


async def test_a_shop_that_was_never_read_through_is_not_called_up_to_date(
    serve: Serve, shops: Shops
) -> None:
    await shops.add("771", "One")
    await shops.change("771", "orders", "succeeded_at = NULL, synced_until = NULL")
    page = (await (await serve(running=frozenset({"771"}))).get("/")).text
    assert headline(page) == "The shop is being read for the first time"
    assert "syncing" in seen(page)


async def test_records_that_could_not_be_stored_are_counted(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.connection.execute(
        "INSERT INTO sync.rejects (shop_id, stream, record_id, stored, reason, raw)"
        " VALUES ('771', 'orders', '1', false, 'canary reason', ''), ('771', 'orders', '2', true, 'x', '')"
    )
    page = seen((await (await serve()).get("/")).text)
    assert "orders: 1 record was not storable" in page
    assert "canary reason" not in page


async def test_rows_are_counted_and_grouped_by_thousands(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.add_orders("771", 12_345)
    assert re.search(
        r"orders up to date 1\d s ago .*? 12,345 products", seen((await (await serve()).get("/")).text)
    )


async def test_the_daemon_that_does_no_work_is_not_called_fine(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    page = (await (await serve(is_ready=False)).get("/")).text
    assert "The daemon is starting, stopping or without its database" in seen(page)
    assert "✓" not in page


@pytest.mark.parametrize("where", ["name", "reason", "error"])
async def test_markup_from_elsewhere_stays_text(serve: Serve, shops: Shops, where: str) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    await shops.add(
        "771",
        evil if where == "name" else "One",
        state="needs_reauth" if where == "reason" else "active",
        reason=evil if where == "reason" else None,
    )
    if where == "error":
        await shops.connection.execute("UPDATE sync.cursors SET failures = 1, last_error = $1", evil)
    page = (await (await serve()).get("/")).text
    assert "<script" not in page
    assert "<img" not in page
    assert html.escape("<script>alert(1)</script>") in page


async def test_the_page_shows_neither_secrets_nor_buyers(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.add_orders("771", 3)
    await shops.change(
        "771", "orders", "failures = 1, last_error = 'GET /x?access_token=canary_token&sign=canary_sign'"
    )
    page = (await (await serve()).get("/")).text
    assert "access_token=***" in page
    assert "canary" not in page


async def test_a_lost_database_is_said_on_the_page_without_a_traceback(bereft: Browser) -> None:
    answer = await bereft.get("/")
    assert answer.status == 503
    assert headline(answer.text) == "The database does not answer"
    assert "doomed" in answer.text
    assert "Traceback" not in answer.text


async def test_metrics_of_the_process_outlive_the_database(bereft: Browser) -> None:
    answer = await bereft.get("/metrics")
    assert answer.status == 200
    assert "shopsync_leases_held" in answer.text
