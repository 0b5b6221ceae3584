"""A real browser, where the machine has one."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright

from sync.simulator.options import SimulatorOptions
from tests.conftest import StartSimulator
from tests.consent_probe import Place, consent_settings, open_place

_CHROMIUM = os.environ.get("SHOPSYNC_TEST_CHROMIUM") or shutil.which("chromium")
_PICTURES = os.environ.get("SHOPSYNC_TEST_PICTURES")
_PATIENCE_S = 60
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("no Chromium: install it, or name it in SHOPSYNC_TEST_CHROMIUM")
    # Nothing of Playwright's has an end of its own when the browser or its driver stands still.
    async with asyncio.timeout(_PATIENCE_S):
        playwright = await async_playwright().start()
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
    yield browser
    async with asyncio.timeout(_PATIENCE_S):
        await browser.close()
        await playwright.stop()


@pytest.fixture
async def page(chromium: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A fresh visitor. What the test saw last is pictured at the end, in both lights and on a phone."""
    context = await chromium.new_context()
    opened = await context.new_page()
    wrong: list[str] = []
    opened.on(
        "console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None
    )
    yield opened
    if _PICTURES:
        name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))
        await take_pictures(opened, Path(_PICTURES), name)
    async with asyncio.timeout(_PATIENCE_S):
        await context.close()
    assert wrong == []


async def take_pictures(page: Page, folder: Path, name: str) -> None:
    """What is shown, in a light and a dark room, on a desk and on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    shots: tuple[tuple[Literal["light", "dark"], int], ...] = (
        ("light", 1100),
        ("dark", 1100),
        ("light", 390),
    )
    for light, width in shots:
        await page.set_viewport_size({"width": width, "height": 760})
        await page.emulate_media(color_scheme=light)
        await page.screenshot(path=folder / f"{name}-{light}-{width}.png", full_page=True)


@pytest.fixture
async def place(start_simulator: StartSimulator, database_url: str) -> AsyncIterator[Place]:
    """A daemon's server and a simulator with three sellers: one of them sells in two countries."""
    simulator = await start_simulator(
        shops=4, orders_per_shop=3, products_per_shop=2, flash_sale_orders=0, options=SimulatorOptions()
    )
    async with open_place(consent_settings(database_url, simulator), simulator) as opened:
        yield opened
