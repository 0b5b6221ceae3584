"""Who may ask the daemon's web server, and what it answers about itself."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from web_fixtures import Serve, Shops

from sync.errors import SettingsError

pytest_plugins = ("web_fixtures",)

TOKEN = "a token; with \"every\" kind of character é"


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


async def test_it_is_not_ready_when_postgres_does_not_answer_in_two_seconds(
    serve: Serve, shops: Shops, web_url: str
) -> None:
    stuck = asyncio.Event()
    reached = asyncio.Event()
    pipes: list[asyncio.Task[None]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await _connect_to(web_url)
        pipes.append(asyncio.create_task(_pipe(reader, target[1], stuck, reached)))
        pipes.append(asyncio.create_task(_pipe(target[0], writer, stuck, reached)))

    relay_server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = relay_server.sockets[0].getsockname()[1]
    browser = await serve(url=f"postgresql://{await _user(shops.connection)}@127.0.0.1:{port}/shopsync_web")
    assert (await browser.get("/readyz")).status == 200
    stuck.set()
    started = asyncio.get_running_loop().time()
    answer = await browser.get("/readyz")
    assert answer.status == 503
    assert "Postgres did not answer within 2 s" in answer.text
    assert asyncio.get_running_loop().time() - started < 4
    relay_server.close()
    for pipe in pipes:
        pipe.cancel()
