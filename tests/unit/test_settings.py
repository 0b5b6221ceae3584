"""Settings: where they come from, what wins, and which secrets are taken from where."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync.errors import SettingsError
from sync.settings import App, Settings, load_settings, split_keys

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Loads with these variables (without their prefix), and this TOML as the operator's file."""
    for name in os.environ:
        if name.upper().startswith("SHOPSYNC_"):
            monkeypatch.delenv(name)

    def call(toml: str | None = None, **variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"SHOPSYNC_{name}", value)
        before = dict(os.environ)
        path = None
        if toml is not None:
            path = tmp_path / "settings.toml"
            path.write_text(toml)
        try:
            return load_settings(path)
        finally:
            assert dict(os.environ) == before

    return call


def test_the_defaults_are_those_of_the_contract(load: Load) -> None:
    settings = load()
    assert settings.requests_per_second == 50
    assert settings.settle_s == 5
    assert settings.lookback_s == 300
    assert settings.api_url == "https://open-api.tiktokglobalshop.com"
    assert settings.auth_url == "https://auth.tiktok-shops.com"
    assert (settings.web.host, settings.web.port) == ("127.0.0.1", 8080)
    assert settings.database_url is None
    assert settings.history_start == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_file_wins_over_the_defaults_and_leaves_the_rest(load: Load) -> None:
    settings = load("settle_s = 9\n[web]\nport = 9090\n")
    assert (settings.settle_s, settings.web.port) == (9, 9090)
    assert (settings.lookback_s, settings.web.host) == (300, "127.0.0.1")


def test_the_environment_wins_over_the_file(load: Load) -> None:
    settings = load(
        "settle_s = 9\n[web]\nport = 9090\nhost = '::1'\n[intervals]\norders_s = 7\n",
        SETTLE_S="11",
        WEB__PORT="7070",
        INTERVALS__PRODUCTS_S="8",
    )
    assert (settings.settle_s, settings.web.port, settings.web.host) == (11, 7070, "::1")
    assert (settings.intervals.of("orders"), settings.intervals.of("products")) == (7, 8)


def test_an_empty_variable_is_an_absent_one(load: Load) -> None:
    settings = load("settle_s = 9\n", SETTLE_S="", DATABASE_URL="", APP_SECRET_FILE="")
    assert settings.settle_s == 9
    assert settings.database_url is None


def test_upper_case_levels_are_understood(load: Load) -> None:
    settings = load(LOG_LEVEL="WARNING", LOG_FORMAT="Json")
    assert (settings.log_level, settings.log_format) == ("warning", "json")


def test_a_secret_comes_from_a_file_without_its_line_end(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    settings = load(APP_KEY="k", APP_SECRET_FILE=str(path))
    assert settings.app("default").app_secret.get_secret_value() == "s3cret"


def test_every_secret_can_come_from_a_file(load: Load, tmp_path: Path) -> None:
    contents = {
        "DATABASE_URL": "postgresql://u:p@db/x",
        "ENCRYPTION_KEY": KEY,
        "WEB__TOKEN": "web-token",
        "APPS__US__APP_SECRET": "us-secret",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    settings = load(
        "[apps.us]\napp_key = 'us-key'\n", **{f"{name}_FILE": str(tmp_path / name) for name in contents}
    )
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == contents["DATABASE_URL"]
    assert settings.encryption_key is not None
    assert settings.web.token is not None
    assert settings.web.token.get_secret_value() == "web-token"
    assert settings.app("us").app_secret.get_secret_value() == "us-secret"


@pytest.mark.parametrize("name", ["us", "US", "Us"])
def test_a_further_app_takes_its_secret_from_the_environment(load: Load, name: str) -> None:
    settings = load(
        f"app_key = 'global-key'\n[apps.{name}]\napp_key = 'us-key'\nservice_id = '74'\n",
        APPS__US__APP_SECRET="us-secret",
        APP_SECRET="global-secret",
    )
    app = settings.app(name)
    assert (app.app_key, app.app_secret.get_secret_value(), app.service_id) == ("us-key", "us-secret", "74")
    assert settings.app("default").app_secret.get_secret_value() == "global-secret"


def test_a_further_app_may_stand_in_the_environment_alone(load: Load) -> None:
    settings = load(APPS__EU__APP_KEY="k", APPS__EU__APP_SECRET="s", APPS__EU__SERVICE_ID="7")
    assert settings.app("eu").service_id == "7"


@pytest.mark.parametrize(
    ("variables", "name", "missing"),
    [
        ({}, "default", "SHOPSYNC_APP_KEY and SHOPSYNC_APP_SECRET"),
        ({"APP_KEY": "k"}, "default", "SHOPSYNC_APP_SECRET"),
        ({"APP_SECRET": "s"}, "default", "SHOPSYNC_APP_KEY"),
        ({"APPS__US__APP_KEY": "k"}, "us", "SHOPSYNC_APPS__US__APP_SECRET"),
        ({"APPS__US__APP_SECRET": "s"}, "us", "SHOPSYNC_APPS__US__APP_KEY"),
    ],
)
def test_what_an_app_lacks_is_named(load: Load, variables: dict[str, str], name: str, missing: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**variables).app(name)
    assert str(caught.value).startswith(f"{missing} must be set")


def test_an_unknown_app_is_answered_with_the_known_ones(load: Load) -> None:
    settings = load("[apps.us]\napp_key = 'k'\n")
    with pytest.raises(SettingsError, match=r"no app is called 'uk': known are default, us"):
        settings.app("uk")


def test_a_world_of_one_s_own_is_not_reached_by_the_environment(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setenv("SHOPSYNC_DATABASE_URL", "postgresql://real/shop")
    monkeypatch.setenv("SHOPSYNC_API_URL", "https://open-api.tiktokglobalshop.com")
    monkeypatch.setenv("SHOPSYNC_LOG_LEVEL", "debug")
    settings = load_settings(overrides={"api_url": "http://127.0.0.1:1", "settle_s": 1})
    assert settings.database_url is None
    assert settings.api_url == "http://127.0.0.1:1"
    assert settings.log_level == "debug"
    assert os.environ["SHOPSYNC_DATABASE_URL"] == "postgresql://real/shop"


def test_settings_can_be_shown_without_a_secret(load: Load) -> None:
    settings = load(
        "[apps.us]\napp_key = 'k'\n",
        APP_SECRET="canary",
        DATABASE_URL="postgresql://u:canary@h/d",
        ENCRYPTION_KEY=KEY,
        WEB__TOKEN="canary",
        APPS__US__APP_SECRET="canary",
    )
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "canary" not in shown
        assert KEY not in shown


def test_several_keys_are_read_newest_first() -> None:
    assert split_keys(f"{KEY}, {OTHER_KEY}") == [bytes(range(32)), bytes(range(32, 64))]


def test_an_app_does_not_show_its_secret() -> None:
    assert "canary" not in repr(App.model_validate({"app_key": "k", "app_secret": "canary"}))
