"""Fixtures of the tests of comparisons."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sync.app import App
from sync.engine import comparison_io
from sync.simulator.server import RunningSimulator
from tests.support import connected_app, make_settings


@pytest.fixture
async def app(database_url: str, simulator: RunningSimulator) -> AsyncIterator[App]:
    """The application with every seller connected; a second answer is asked for at once."""
    settings = make_settings(database_url, simulator, settle_s=0, lookback_s=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_io, "CONFIRM_AFTER_S", 0.05)
        async with connected_app(settings, simulator) as opened:
            yield opened
