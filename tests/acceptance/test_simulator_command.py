"""``shopsync simulator`` as a second app: its own identity, redirect and notifications."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from sync.simulator.options import SimulatorOptions
from sync.tiktok.signing import sign_notification
from tests.acceptance.processes import simulate
from tests.integration.notification_receiver import receiving

SMALL = ("--shops", "1", "--orders", "20", "--products", "10", "--days", "30", "--mutations", "0")
IDENTITY = ("--app-key", "another-app", "--service-id", "99", "--redirect-url", "http://127.0.0.1:9/back")


async def test_another_app_key_makes_another_app(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        simulate(tmp_path, *SMALL, *IDENTITY, "--notify-url", receiver.url) as simulator,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{simulator.url}/_sim/truth") as answer:
            truth = await answer.json()
        assert (truth["app"]["key"], truth["app"]["service_id"]) == ("another-app", "99")
        assert truth["app"]["secret"] != SimulatorOptions().app_secret
        decision = {"service_id": "99", "seller": truth["sellers"][0]["open_id"], "allow": "1"}
        url = f"{simulator.url}/open/authorize/decision"
        async with session.get(url, params=decision, allow_redirects=False) as answer:
            target = urlsplit(answer.headers["Location"])
        assert target.netloc + target.path == "127.0.0.1:9/back"
        assert dict(parse_qsl(target.query))["app_key"] == "another-app"
        await simulator.post("notify", type=7, shop_id=truth["shops"][0]["shop_id"])
        (heard,) = await receiver.wait_for(1)
        assert heard.signature == sign_notification(
            heard.raw, app_key="another-app", app_secret=truth["app"]["secret"]
        )
