"""What a seller's browser is answered, and who may do what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from sync.errors import SettingsError
from sync.simulator.server import RunningSimulator
from sync.web.visits import Allowance
from tests.conftest import StartSimulator
from tests.consent_probe import Place, Seller, answer_path, consent_settings, open_place, open_seller

LOCAL, CROSS_BORDER = 0, 1
TOKEN = "a-token-for-tests"
_COUNT = "SELECT count(*) FROM sync.shops WHERE state = 'active'"
_FORM = re.compile(r'name="form" value="([^"]+)"')


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(shops=3, orders_per_shop=2, products_per_shop=1, flash_sale_orders=0)


@pytest.fixture
async def place(simulator: RunningSimulator, database_url: str) -> AsyncIterator[Place]:
    async with open_place(consent_settings(database_url, simulator), simulator) as opened:
        yield opened


@pytest.fixture
async def seller(place: Place) -> AsyncIterator[Seller]:
    async with open_seller(place) as opened:
        yield opened


@pytest.fixture
async def public(simulator: RunningSimulator, database_url: str) -> AsyncIterator[Place]:
    """The same behind a proxy: whoever comes looks local, and is not."""
    settings = consent_settings(database_url, simulator)
    web = settings.web.model_copy(
        update={"public_url": "https://sync.example.com", "token": SecretStr(TOKEN)}
    )
    async with open_place(settings.model_copy(update={"web": web}), simulator) as opened:
        yield opened


def form_of(text: str) -> str:
    found = _FORM.search(text)
    assert found is not None, text
    return found[1]


def calls(place: Place) -> int:
    return place.simulator.simulation.meter.token_gets


async def test_the_code_is_gone_from_the_address_at_once(seller: Seller, simulator: RunningSimulator) -> None:
    answer = await seller.get(answer_path(simulator, state=await seller.begin()))
    assert (answer.status, answer.headers["Location"]) == (303, "/oauth/done")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/oauth" in cookie
    assert "Secure" not in cookie


async def test_pages_hold_neither_code_nor_state_nor_token(
    seller: Seller, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    state = await seller.begin()
    path = answer_path(simulator, place=CROSS_BORDER, state=state)
    code = path.split("code=")[1].split("&")[0]
    text = (await seller.follow(path)).text
    assert "2 shops are connected" in text
    ciphers = [row["cipher"] for row in await connection.fetch("SELECT cipher FROM sync.shops")]
    for secret in (code, state, simulator.options.app_secret, "TTP_", *ciphers):
        assert secret not in text


async def test_names_are_shown_as_the_text_they_are(seller: Seller, simulator: RunningSimulator) -> None:
    evil = "<script>alert(1)</script>"
    for shop in simulator.world.shops.values():
        shop.name = shop.seller.name = evil
    asked = await seller.follow(answer_path(simulator, state=await seller.begin()))
    unasked = await seller.follow(answer_path(simulator, place=CROSS_BORDER))
    for page in (asked, unasked, await seller.get("/oauth/waiting")):
        assert evil not in page.text
        assert "&lt;script&gt;alert(1)" in page.text


async def test_nobody_else_sees_the_page(seller: Seller, place: Place, simulator: RunningSimulator) -> None:
    assert (await seller.follow(answer_path(simulator, state=await seller.begin()))).status == 200
    async with open_seller(place) as stranger:
        answer = await stranger.get("/oauth/done")
    assert answer.status == 400
    assert "Maomao" not in answer.text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "nothing to show"),
        ("?code=null&error=auth_denied", 200, "did not allow"),
        ("?code=null&error=auth_denied&state=" + "x" * 43, 400, "not known here"),
        ("?code=ROW_abcdefgh&state=" + "x" * 43, 400, "not known here"),
        ("?code=ROW_abcdefgh&state=short", 400, "not known here"),
        ("?code=ROW_abcdefgh&app_key=another", 400, "not set up here"),
        ("?code=%00%ff<script>", 400, "nothing to show"),
        ("?code=" + "a" * 600, 400, "nothing to show"),
        ("?state=" + "x" * 43, 400, "nothing to show"),
        ("?code[]=ROW_abcdefgh", 400, "nothing to show"),
    ],
)
async def test_junk_costs_no_call_and_no_row(
    seller: Seller, place: Place, connection: asyncpg.Connection, query: str, status: int, words: str
) -> None:
    answer = await seller.follow(f"/oauth/callback{query}")
    assert answer.status == status
    assert words in answer.text
    assert calls(place) == 0
    assert await connection.fetchval("SELECT count(*) FROM sync.consents") == 0
    assert await connection.fetchval("SELECT count(*) FROM sync.credentials") == 0


async def test_a_code_that_is_too_old_is_told(
    seller: Seller, place: Place, simulator: RunningSimulator
) -> None:
    path = answer_path(simulator, code="ROW_used_long_ago", state=await seller.begin())
    answer = await seller.follow(path)
    assert answer.status == 410
    assert "does not accept this consent" in answer.text


async def test_a_refusal_uses_the_link_up(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    state = await seller.begin()
    assert (await seller.follow(f"/oauth/callback?code=null&error=auth_denied&state={state}")).status == 200
    assert await connection.fetchval("SELECT outcome FROM sync.consents") == "refused"
    answer = await seller.follow(answer_path(simulator, state=state))
    assert (answer.status, calls(place)) == (410, 0)


async def test_a_link_preview_uses_nothing_up(
    seller: Seller, place: Place, simulator: RunningSimulator
) -> None:
    path = answer_path(simulator, state=await seller.begin())
    async with seller._session.head(place.url + path) as answer:
        assert answer.status == 405
    assert (await seller.follow(path)).status == 200


async def test_shops_are_left_out_once_by_who_consented(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    page = await seller.follow(answer_path(simulator, place=CROSS_BORDER, state=await seller.begin()))
    kept = re.findall(r'name="keep" value="(\d+)"', page.text)[0]
    form = form_of(page.text)
    async with open_seller(place) as stranger:
        assert (
            (await stranger.post("/oauth/shops", form=form, keep=kept)).headers["Location"].endswith("stale")
        )
    assert (await seller.post("/oauth/shops", form="wrong", keep=kept)).headers["Location"].endswith("stale")
    assert await connection.fetchval(_COUNT) == 2
    assert (await seller.post("/oauth/shops", form=form, keep=kept)).headers["Location"] == "/oauth/done"
    assert (await seller.post("/oauth/shops", form=form)).headers["Location"].endswith("stale")
    assert await connection.fetchval("SELECT array_agg(shop_id) FROM sync.shops WHERE state = 'active'") == [
        kept
    ]


async def test_a_form_cannot_let_go_of_a_shop_of_somebody_else(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await seller.follow(answer_path(simulator, place=LOCAL, state=await seller.begin()))
    page = await seller.follow(answer_path(simulator, place=CROSS_BORDER, state=await seller.begin()))
    await seller.post("/oauth/shops", form=form_of(page.text))
    assert await connection.fetchval(_COUNT) == 1


@pytest.mark.parametrize("path", ["/oauth/again", "/oauth/shops"])
async def test_a_form_that_does_not_come_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("sync.web.onboarding._READ_S", 0.2)
    address = urlsplit(place.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100"
    writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{form}\r\n\r\nf".encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_only_who_is_admitted_begins_a_consent_or_sees_who_waits(public: Place) -> None:
    async with open_seller(public) as stranger:
        for path in ("/oauth/start?app=default", "/oauth/waiting", "/"):
            assert (await stranger.get(path)).status == 401
        assert (await stranger.post("/oauth/waiting", seller="1", do="confirm")).status == 401
        first = await stranger.get(f"/oauth/start?app=default&token={TOKEN}")
        assert (first.status, first.headers["Location"]) == (303, "/oauth/start?app=default")
        again = await stranger.get(first.headers["Location"], Authorization=f"Bearer {TOKEN}")
        assert again.status == 302


async def test_a_server_behind_a_proxy_answers_to_its_public_name(public: Place) -> None:
    async with open_seller(public) as stranger:
        said = "/oauth/done?said=refused"
        assert (await stranger.get(said, Host="sync.example.com")).status == 200
        assert (await stranger.get(said, Host="127.0.0.1:8080")).status == 200
        assert (await stranger.get(said, Host="evil.example")).status == 403


async def test_the_cookie_is_for_https_where_the_public_address_is(
    public: Place, simulator: RunningSimulator
) -> None:
    begun = await public.app.onboarding.begin("default")
    async with open_seller(public) as stranger:
        answer = await stranger.get(answer_path(simulator, state=begun.link.partition("state=")[2]))
    assert "Secure" in answer.headers["Set-Cookie"]


async def test_a_seller_who_comes_unasked_cannot_confirm_alone(
    public: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    async with open_seller(public) as stranger:
        answer = await stranger.get(answer_path(simulator))
        assert answer.status == 303
        assert (await stranger.get("/oauth/waiting")).status == 401
    assert await connection.fetchval("SELECT count(*) FROM sync.credentials") == 1
    assert await connection.fetchval("SELECT count(*) FROM sync.shops") == 0


async def test_a_page_elsewhere_cannot_confirm_a_seller(
    seller: Seller, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await seller.follow(answer_path(simulator))
    waiting = await connection.fetchval("SELECT credential_id FROM sync.credentials")
    for form in ("", "1.0", f"{2**70}.00", "²³.a", "\x00"):
        answer = await seller.post("/oauth/waiting", seller=str(waiting), do="confirm", form=form)
        assert answer.status == 403, form
    assert await connection.fetchval(_COUNT) == 0
    form = form_of((await seller.get("/oauth/waiting")).text)
    await seller.post("/oauth/waiting", seller=str(waiting), do="confirm", form=form)
    assert await connection.fetchval(_COUNT) == 1


async def test_an_image_elsewhere_begins_no_consent(seller: Seller, connection: asyncpg.Connection) -> None:
    answer = await seller.get("/oauth/start?app=default", **{"Sec-Fetch-Mode": "no-cors"})
    assert answer.status == 403
    assert await connection.fetchval("SELECT count(*) FROM sync.consents") == 0


async def test_codes_that_nobody_asked_for_are_tried_a_few_at_a_time(seller: Seller, place: Place) -> None:
    answers = [await seller.get(f"/oauth/callback?code=ROW_guess_{n:04}") for n in range(15)]
    assert [answer.status for answer in answers].count(429) == 5
    assert calls(place) == 10


async def test_a_shop_that_needs_a_consent_links_to_the_consent_of_its_app(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    await seller.follow(answer_path(simulator, state=await seller.begin()))
    assert "consent again" not in (await seller.get("/")).text
    await connection.execute("UPDATE sync.shops SET state = 'needs_reauth'")
    async with open_seller(place) as other:
        await other.follow(answer_path(simulator, place=CROSS_BORDER, state=await other.begin()))
        page = await other.get("/")
    assert '<a href="/oauth/start?app=default">Let the seller consent again</a>' in page.text


async def test_a_public_address_without_a_token_is_refused_at_the_start(
    database_url: str, simulator: RunningSimulator
) -> None:
    settings = consent_settings(
        database_url, simulator, web={"port": 0, "public_url": "https://sync.example.com"}
    )
    with pytest.raises(SettingsError, match=r"web\.public_url .* set SHOPSYNC_WEB__TOKEN"):
        async with open_place(settings, simulator):
            pass


async def test_who_has_a_link_is_served_while_others_guess_codes(
    seller: Seller, simulator: RunningSimulator
) -> None:
    for n in range(15):
        await seller.get(f"/oauth/callback?code=ROW_guess_{n:04}")
    assert (await seller.follow(answer_path(simulator, state=await seller.begin()))).status == 200


async def test_an_app_that_is_not_there_begins_nothing(seller: Seller) -> None:
    answer = await seller.get("/oauth/start?app=us")
    assert answer.status == 404
    assert "Known are default" in answer.text
    # To this address again, not to pages that a seller may not see.
    assert '<a href="">Try again</a>' in answer.text


async def test_a_wrong_secret_is_nobodys_fault_but_ours(
    database_url: str, simulator: RunningSimulator
) -> None:
    settings = consent_settings(database_url, simulator).model_copy(
        update={"app_secret": SecretStr("canary-wrong-secret")}
    )
    async with open_place(settings, simulator) as place, open_seller(place) as seller:
        answer = await seller.follow(answer_path(simulator, state=await seller.begin()))
    assert answer.status == 502
    assert "no fault of yours" in answer.text
    assert "canary" not in answer.text


async def test_a_database_that_went_away_is_told_and_the_consent_goes_on_when_it_is_back(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    state = await seller.begin()
    await connection.execute("ALTER TABLE sync.consents RENAME TO hidden")
    page = await seller.follow(answer_path(simulator, state=state))
    assert page.status == 503
    assert calls(place) == 0
    await connection.execute("ALTER TABLE sync.hidden RENAME TO consents")
    answer = await seller.post("/oauth/again", form=form_of(page.text))
    assert answer.headers["Location"] == "/oauth/done"
    assert (await seller.get("/oauth/done")).status == 200
    assert await connection.fetchval(_COUNT) == 1


async def test_a_browser_that_gives_up_does_not_cut_off_the_tokens(
    seller: Seller, place: Place, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    path = answer_path(simulator, state=await seller.begin())
    simulator.change_options(latency_s=0.3)
    visit = asyncio.create_task(seller.get(path))
    async with asyncio.timeout(10):
        while not calls(place):
            await asyncio.sleep(0.005)
    visit.cancel()
    async with asyncio.timeout(10):
        while (outcome := await connection.fetchval("SELECT outcome FROM sync.consents")) is None:
            await asyncio.sleep(0.01)
    assert outcome == "connected"
    assert await connection.fetchval(_COUNT) > 0


async def test_a_command_finds_the_daemon_of_its_database(seller: Seller, place: Place) -> None:
    begun = await place.app.onboarding.begin("default")
    assert (await seller.get(f"/oauth/begun/{begun.digest.hex()}")).status == 204
    for digest in ("0" * 64, "xyz", begun.digest.hex().upper()):
        assert (await seller.get(f"/oauth/begun/{digest}")).status == 404


@pytest.mark.parametrize("path", ["/oauth/done", "/oauth/waiting", "/oauth/done?said=provider"])
async def test_pages_run_no_script_and_stay_in_no_cache(seller: Seller, path: str) -> None:
    answer: Any = await seller.get(path)
    assert "<script" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'nonce-")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_an_allowance_fills_up_again_to_its_burst_and_no_more() -> None:
    now = [0.0]
    allowance = Allowance(2, per_s=0.5, clock=lambda: now[0])
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now[0] = 2.0
    assert [allowance.take() for _ in range(2)] == [True, False]
    now[0] = 1e6
    assert [allowance.take() for _ in range(3)] == [True, True, False]
