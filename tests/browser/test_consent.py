"""A seller consents in a real browser, and understands what is shown."""

from __future__ import annotations

import asyncpg
from playwright.async_api import Page, expect

from tests.consent_probe import Place, answer_path

CROSS_BORDER = "Shenzhen Starlight Trading 1"


async def decide(page: Page, seller: str, answer: str = "Allow") -> None:
    """The seller's answer on TikTok Shop's pages: who it is, and whether the app may."""
    await page.locator("li", has_text=seller).get_by_role("link").first.click()
    await page.get_by_role("button", name=answer, exact=True).click()


async def heading(page: Page) -> str:
    return await page.locator("h1").inner_text()


def assert_clean(page: Page, place: Place) -> None:
    """Neither the code nor the state stays in the address bar."""
    assert page.url.partition("?")[0] == f"{place.url}/oauth/done"
    assert "code" not in page.url
    assert "state" not in page.url


async def test_a_shop_is_connected_from_the_status_page(page: Page, place: Place) -> None:
    await page.goto(place.url)
    await page.get_by_text("Connect a shop").click()
    await decide(page, "Maomao Beauty Ltd 1")
    assert await heading(page) == "Maomao Beauty is connected"
    assert_clean(page, place)
    await page.reload()
    assert await heading(page) == "Maomao Beauty is connected"
    await page.get_by_text("Status of all shops").click()
    await expect(page.get_by_role("heading", name="Maomao Beauty")).to_be_visible()


async def test_a_refusal_connects_nothing(page: Page, place: Place) -> None:
    await page.goto(f"{place.url}/oauth/start")
    await decide(page, "Maomao Beauty Ltd 1", "Refuse")
    assert await heading(page) == "You did not allow the access"
    assert_clean(page, place)
    assert await place.app.store.shops.list() == []


async def test_a_link_that_was_used_is_told(page: Page, place: Place) -> None:
    callbacks: list[str] = []
    page.on("request", lambda sent: callbacks.append(sent.url) if "/oauth/callback" in sent.url else None)
    await page.goto(f"{place.url}/oauth/start")
    await decide(page, "Maomao Beauty Ltd 1")
    answered = await page.goto(callbacks[0])
    assert answered is not None
    assert (answered.status, await heading(page)) == (410, "This link was used already")
    assert_clean(page, place)


async def test_a_second_set_of_shops_is_connected_and_one_left_out(page: Page, place: Place) -> None:
    for seller in ("Maomao Beauty Ltd 1", CROSS_BORDER):
        await page.goto(f"{place.url}/oauth/start")
        await decide(page, seller)
    assert await heading(page) == "2 shops are connected"
    await page.get_by_label("Lichtblick Laden").uncheck()
    await page.get_by_role("button").click()
    assert await heading(page) == "Harbor & Pine is connected"
    await expect(page.get_by_text("left out")).to_be_visible()
    states = {row.shop.name: row.shop.state for row in await place.app.store.shops.list()}
    assert states == {
        "Maomao Beauty": "active",
        "Harbor & Pine": "active",
        "Lichtblick Laden": "disconnected",
    }


async def test_missing_permissions_are_named(page: Page, place: Place) -> None:
    for consent in place.simulator.simulation.accounts.consents.values():
        consent.scopes = frozenset({"seller.authorization.info", "seller.order.info"})
    await page.goto(f"{place.url}/oauth/start")
    await decide(page, CROSS_BORDER)
    text = await page.locator(".note").inner_text()
    assert "seller.product.basic products and inventory cannot be copied" in " ".join(text.split())
    assert "seller.logistics warehouses cannot be copied" in " ".join(text.split())
    await expect(page.get_by_role("checkbox")).to_have_count(2)


async def test_a_seller_who_comes_unasked_waits_until_somebody_confirms(page: Page, place: Place) -> None:
    answered = await page.goto(place.url + answer_path(place.simulator, place=1))
    assert answered is not None
    assert (answered.status, await heading(page)) == (202, "Thank you. One confirmation is missing")
    assert_clean(page, place)
    assert await place.app.store.shops.list() == []
    await page.get_by_text("Confirm the seller").click()
    await expect(page.get_by_role("heading", name=CROSS_BORDER)).to_be_visible()
    await page.get_by_role("button", name="Connect the shops").click()
    assert await heading(page) == "No seller waits"
    assert [row.shop.state for row in await place.app.store.shops.list()] == ["active", "active"]


async def test_who_runs_it_sees_who_waits(page: Page, place: Place) -> None:
    await page.goto(place.url + answer_path(place.simulator))
    await page.goto(place.url)
    await page.get_by_text("Look who it is").click()
    await expect(page.get_by_role("button", name="Send away")).to_be_visible()


async def test_a_consent_goes_on_when_tiktok_shop_answers_again(page: Page, place: Place) -> None:
    faults = place.simulator.simulation.faults
    faults.add({"fault": "unavailable_html", "path": "/api/v2/token/get"})
    await page.goto(f"{place.url}/oauth/start")
    await decide(page, "Maomao Beauty Ltd 1")
    assert await heading(page) == "TikTok Shop does not answer right now"
    faults.remove()
    await page.get_by_role("button", name="Try again").click()
    assert await heading(page) == "Maomao Beauty is connected"


async def test_somebody_who_comes_here_without_an_answer_is_told(page: Page, place: Place) -> None:
    answered = await page.goto(f"{place.url}/oauth/callback")
    assert answered is not None
    assert (answered.status, await heading(page)) == (400, "There is nothing to show here")


async def test_a_shop_that_waits_for_a_consent_is_mended_from_the_status_page(
    page: Page, place: Place, connection: asyncpg.Connection
) -> None:
    await page.goto(f"{place.url}/oauth/start")
    await decide(page, CROSS_BORDER)
    await connection.execute(
        "UPDATE sync.shops SET state = 'needs_reauth', state_reason = 'the consent was withdrawn'"
    )
    await page.goto(place.url)
    await page.get_by_text("Let the seller consent again").first.click()
    await decide(page, CROSS_BORDER)
    assert await heading(page) == "2 shops are connected"
    await page.goto(place.url + answer_path(place.simulator))
    await connection.execute("UPDATE sync.shops SET state = 'needs_reauth', state_reason = 'withdrawn'")
    await page.goto(place.url)
    await expect(page.get_by_text("Let the seller consent again")).to_have_count(2)
