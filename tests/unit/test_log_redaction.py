"""Whatever is logged, no secret shows in it: neither as JSON nor on a terminal."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from sync.log import redact, set_up_logging
from sync.model import Shop, Tokens
from sync.tiktok.client import Access, AppKeys
from tests.support import logging_restored

CANARY = "cAnArY+/=7f3e"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["json", "console"])
def logged(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Sets logging up in both formats; the call returns what was written so far."""
    stream = io.StringIO()
    with logging_restored():
        set_up_logging(level="debug", log_format=request.param, stream=stream)
        yield stream.getvalue


def logger() -> Any:
    return structlog.get_logger("tests.redaction")


@pytest.mark.parametrize(
    "key",
    [
        *(
            "access_token",
            "refresh_token",
            "token",
            "app_secret",
            "APP_SECRET",
            "cipher",
            "shop_cipher",
            "sign",
        ),
        *("password", "auth_code", "encryption_key", "authorization", "Authorization", "x-tts-access-token"),
    ],
)
@pytest.mark.parametrize("wrap", [str, str.encode, lambda v: [v], lambda v: {"a": v}, lambda v: (v, 1)])
def test_a_value_under_a_secret_s_name_is_hidden(
    logged: Callable[[], str], key: str, wrap: Callable[[str], object]
) -> None:
    logger().info("request_retried", **{key: wrap(CANARY)}, shop_id="7")
    assert CANARY not in logged()
    assert "request_retried" in logged()


TEXTS = [
    f"https://auth.tiktok-shops.com/api/v2/token/refresh?app_key=k&app_secret={CANARY}&grant_type=x",
    f"GET /api?refresh_token={CANARY}",
    f"/callback?code={CANARY}&state=1",
    f"/callback?code=1&state={CANARY}",
    f"url='https://h/p?a=1&sign={CANARY}&timestamp=2'",
    f"?shop_cipher={CANARY}",
    f"postgresql://user:{CANARY}@host:5432/db",
    f"postgresql://:{CANARY}@host/db",
    f"postgresql://user:{CANARY}@@host:5432/db",
    f"postgresql://host/db?user=u&password={CANARY}",
    f"host=127.0.0.1 user=u password={CANARY}",
    f"SHOPSYNC_APP_SECRET={CANARY}",
    f'{{"access_token": "{CANARY}", "open_id": "1"}}',
    f"{{'refresh_token': '{CANARY}'}}",
    f"x-tts-access-token: {CANARY}",
    f"{{'x-tts-access-token': '{CANARY}'}}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_inside_a_text_is_hidden(logged: Callable[[], str], text: str) -> None:
    assert CANARY not in redact(text)
    logger().warning("request_retried", reason=text)
    logger().warning(text)
    logger().warning("request_retried", nested={"urls": [text, (text,)], "n": {"deep": text}})
    logging.getLogger("some.library").warning("failed: %s", text)
    assert CANARY not in logged()


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_inside_an_exception_is_hidden(logged: Callable[[], str], text: str) -> None:
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError(f"while asking {text}") from error
    except RuntimeError:
        logger().exception("sync_crashed", shop_id="7")
        logging.getLogger("some.library").exception("crashed")
    assert CANARY not in logged()
    assert "RuntimeError" in logged()


def test_the_variables_of_a_traceback_are_not_shown(logged: Callable[[], str]) -> None:
    def fail(refresh: str) -> None:
        buyer = "buyer-" + refresh
        raise ValueError(f"no token, {len(buyer)} letters")

    try:
        fail(CANARY)
    except ValueError:
        logger().exception("sync_crashed")
    assert "no token" in logged()
    assert CANARY not in logged()


@pytest.mark.parametrize(
    "text",
    [
        "TikTok Shop answered 36009003: Internal error (request 2026)",
        "postgresql://host:5432/db",
        "https://open-api.tiktokglobalshop.com/order/202309/orders/search",
        "the answer's 'orders' is not a list of records",
        "orders [2026-01-01 00:00:00, 2026-01-02 00:00:00) UTC kept changing",
        "a token is refreshed at half of its life",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redact(text) == text


def test_one_event_is_one_line_of_json() -> None:
    stream = io.StringIO()
    with logging_restored():
        set_up_logging(level="info", log_format="json", stream=stream)
        logger().info("slice_covered", rows=3, note="two\nlines")
        logger().debug("not shown")
        line, *rest = stream.getvalue().splitlines()
    event = json.loads(line)
    assert rest == []
    assert (event["event"], event["rows"], event["level"]) == ("slice_covered", 3, "info")
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "holder",
    [
        AppKeys(app_key="k", app_secret=CANARY),
        Access(keys=AppKeys(app_key="k", app_secret=CANARY), token=CANARY, cipher=CANARY),
        Shop(shop_id="7", name="n", region="GB", app="a", credential_id=1, cipher=CANARY),
        Tokens(
            access_token=CANARY,
            access_expires_at=NOW,
            refresh_token=CANARY,
            refresh_expires_at=NOW,
            obtained_at=NOW,
            open_id="o",
            seller_name="s",
            seller_region="GB",
            granted_scopes=(),
        ),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_values_that_hold_secrets_do_not_show_them(holder: object) -> None:
    assert CANARY not in repr(holder)
    assert CANARY not in f"{holder}"
