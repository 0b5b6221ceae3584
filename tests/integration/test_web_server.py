"""Who may ask the daemon's web server, and what it answers about itself."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import quote

import pytest

from sync.errors import SettingsError
from tests.web_probe import Browser, Serve, Shops

pytest_plugins = ("tests.web_fixtures",)

TOKEN = 'a token; with "every" kind of character é'


async def test_the_process_says_that_it_lives_even_when_it_is_not_ready(serve: Serve) -> None:
    answer = await (await serve(is_ready=False)).get("/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")


async def test_it_is_ready_when_the_daemon_works_and_postgres_answers(serve: Serve, shops: Shops) -> None:
    answer = await (await serve()).get("/readyz")
    assert (answer.status, answer.text) == (200, "ok\n")


async def test_it_is_not_ready_while_the_daemon_does_not_work(serve: Serve) -> None:
    answer = await (await serve(is_ready=False)).get("/readyz")
    assert answer.status == 503
    assert answer.text == "not ready: the daemon is starting, stopping or without its database\n"


async def test_it_is_not_ready_when_postgres_does_not_answer_within_two_seconds(serve: Serve) -> None:
    browser = await serve()
    clock = asyncio.get_running_loop().time
    async with browser.database.connection(), browser.database.connection():
        started = clock()
        answer = await browser.get("/readyz")
        assert answer.status == 503
        assert answer.text == "not ready: Postgres did not answer within 2 s, or refused\n"
        assert clock() - started < 4
    assert (await browser.get("/readyz")).status == 200


async def test_an_unready_server_gives_no_address_away(bereft: Browser) -> None:
    answer = await bereft.get("/readyz")
    assert answer.status == 503
    assert "doomed" not in answer.text


async def test_metrics_tell_until_when_each_stream_is_stored(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "One")
    await shops.change("771", "orders", "synced_until = to_timestamp(1790000000)")
    answer = await (await serve()).get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'shopsync_synced_until_seconds{shop_id="771",stream="orders"} 1.79e+09\n' in answer.text
    assert 'shopsync_shops{state="active"} 1.0\n' in answer.text


async def test_an_unknown_page_is_told_in_plain_text(serve: Serve) -> None:
    answer = await (await serve()).get("/<script>alert(1)</script>")
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "script" not in answer.text


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nowhere"])
async def test_every_answer_forbids_the_browser_what_it_does_not_need(
    serve: Serve, shops: Shops, path: str
) -> None:
    headers = (await (await serve()).get(path)).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert "script-src" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "aiohttp" not in headers["Server"]


async def test_the_style_runs_under_a_nonce_that_is_new_for_every_answer(serve: Serve, shops: Shops) -> None:
    browser = await serve()
    policies = set()
    for _ in range(2):
        answer = await browser.get("/")
        policy = answer.headers["Content-Security-Policy"]
        nonce = policy.split("'nonce-")[1].split("'")[0]
        assert f'<style nonce="{nonce}">' in answer.text
        policies.add(policy)
    assert len(policies) == 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.test", "[::2]", "["])
async def test_a_foreign_name_that_points_to_this_machine_is_refused(serve: Serve, host: str) -> None:
    browser = await serve()
    for path in ("/", "/healthz", "/metrics", "/nowhere"):
        assert (await browser.get(path, Host=host)).status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"])
async def test_the_names_of_this_machine_are_served(serve: Serve, shops: Shops, host: str) -> None:
    assert (await (await serve()).get("/", Host=host)).status == 200


@pytest.mark.parametrize("token", [None, ""])
async def test_a_server_for_other_machines_does_not_start_without_a_token(
    serve: Serve, token: str | None
) -> None:
    with pytest.raises(SettingsError, match="set SHOPSYNC_WEB__TOKEN"):
        await serve(host="0.0.0.0", **({} if token is None else {"token": token}))


async def test_other_machines_see_no_data_without_the_token(serve: Serve, shops: Shops) -> None:
    await shops.add("771", "Canary Shop")
    browser = await serve(host="0.0.0.0", token=TOKEN)
    for path in ("/", "/metrics", "/?token=wrong", "/metrics?token="):
        answer = await browser.get(path)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "Canary" not in answer.text
        assert "771" not in answer.text
    for path in ("/healthz", "/readyz"):
        assert (await browser.get(path)).status == 200


async def test_the_token_in_the_header_opens_the_pages(serve: Serve, shops: Shops) -> None:
    token = "0123456789abcdef"
    browser = await serve(host="0.0.0.0", token=token)
    for path in ("/", "/metrics"):
        assert (await browser.get(path, Authorization=f"Bearer {token}")).status == 200
        assert (await browser.get(path, Authorization=f"Bearer {token}0")).status == 401
        assert (await browser.get(path, Authorization=f"Basic {token}")).status == 401


async def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(
    serve: Serve, shops: Shops
) -> None:
    browser = await serve(host="0.0.0.0", token=TOKEN)
    answer = await browser.get(f"/?token={quote(TOKEN)}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "every" not in cookie
    assert (await browser.get("/")).status == 200
    stranger = await serve(host="0.0.0.0", token="another token")
    assert (await stranger.get("/", Cookie=cookie.split(";")[0])).status == 401


@pytest.mark.parametrize(("host", "is_secure"), [("sync.example.com", True), ("127.0.0.1", False)])
async def test_the_cookie_is_for_https_where_https_is(
    serve: Serve, shops: Shops, host: str, is_secure: bool
) -> None:
    browser = await serve(token=TOKEN, public_url="https://sync.example.com")
    answer = await browser.get(f"/?token={quote(TOKEN)}", Host=host)
    assert ("Secure" in answer.headers["Set-Cookie"]) is is_secure


async def test_a_port_that_is_taken_is_a_fault_of_the_settings(serve: Serve) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} .* is taken .* SHOPSYNC_WEB__PORT"):
            await serve(port=port)


async def test_an_address_of_another_machine_is_a_fault_of_the_settings(serve: Serve) -> None:
    with pytest.raises(SettingsError, match="SHOPSYNC_WEB__HOST"):
        await serve(host="192.0.2.1", token="x")
