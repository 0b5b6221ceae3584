"""Wrong settings: one line for each fault, which names it, and never shows a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sync.errors import SettingsError
from sync.settings import load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("SHOPSYNC_"):
            monkeypatch.delenv(name)


def refusal(toml: str | bytes | None = None, *, folder: Path | None = None) -> list[str]:
    """The lines with which these settings are refused."""
    path = None
    if toml is not None:
        assert folder is not None
        path = folder / "settings.toml"
        path.write_bytes(toml.encode() if isinstance(toml, str) else toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return str(caught.value).splitlines()


BAD_VALUES = [
    ("SETTLE_S", "-1"),
    ("SETTLE_S", "five"),
    ("SETTLE_S", "1.5"),
    ("LOOKBACK_S", "999999999"),
    ("REQUESTS_PER_SECOND", "0"),
    ("REQUESTS_PER_SECOND", "nan"),
    ("REQUESTS_PER_SECOND", "inf"),
    ("REQUESTS_PER_SECOND", "fast"),
    ("PARALLEL_SLICES", "0"),
    ("PARALLEL_SHOPS", "0"),
    ("DATABASE_POOL_SIZE", "1"),
    ("HISTORY_SINCE", "2020-13-01"),
    ("HISTORY_SINCE", "yesterday"),
    ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "xml"),
    ("WEB__PORT", "65536"),
    ("WEB__PORT", "http"),
    ("INTERVALS__ORDERS_S", "0"),
    ("API_URL", "http://open-api.tiktokglobalshop.com"),
    ("API_URL", "http://127.0.0.1.example.com"),
    ("API_URL", "http://localhost.example.com"),
    ("API_URL", "http://10.0.0.1"),
    ("API_URL", "ftp://127.0.0.1"),
    ("API_URL", "open-api.tiktokglobalshop.com"),
    ("API_URL", "https://"),
    ("API_URL", "https://[::1"),
    ("API_URL", "https://host:port"),
    ("API_URL", "https://host/?a=b"),
    ("AUTH_URL", "http://auth.tiktok-shops.com"),
    ("AUTH_URL", "http://user@127.0.0.1@evil.example"),
    ("ENCRYPTION_KEY", "canary-short"),
    ("ENCRYPTION_KEY", "canarycanarycanarycanarycanarycanarycanary!"),
    ("ENCRYPTION_KEY", ","),
    ("DATABASE_URL", "mysql://user:canary@host/db"),
    ("DATABASE_URL", "host=127.0.0.1 password=canary"),
    ("DATABASE_URL", "postgresql://user:can/ary@host:5432/db"),
    ("DATABASE_URL", "postgresql://user:12/canary@host:5432/db"),
    ("DATABASE_URL", "postgresql://user:can#ary@host:5432/db"),
    ("DATABASE_URL", "postgresql://user:can?ary@host:5432/db"),
    ("DATABASE_URL", "postgresql://[::1/canary"),
    ("WEB__PUBLIC_URL", "https://sync.example.com/canary"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SHOPSYNC_{name}", value)
    (line,) = refusal()
    assert f"SHOPSYNC_{name}" in line
    assert "canary" not in line
    assert "ary@" not in line


def test_a_percent_encoded_password_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://user:can%2Fary%40@host:5432,other:5433/db?sslmode=require"
    monkeypatch.setenv("SHOPSYNC_DATABASE_URL", url)
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000", "http://127.8.9.1", "https://x"],
)
def test_plain_http_is_accepted_on_loopback_only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SHOPSYNC_API_URL", url + "/")
    assert load_settings().api_url == url


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("SHOPSYNC_SETTEL_S", "SHOPSYNC_SETTLE_S"),
        ("SHOPSYNC_DATABSE_URL", "SHOPSYNC_DATABASE_URL"),
        ("SHOPSYNC_WEB_PORT", "SHOPSYNC_WEB__PORT"),
        ("SHOPSYNC_WEB__PROT", "SHOPSYNC_WEB__PORT"),
        ("SHOPSYNC_INTERVAL__ORDERS_S", "SHOPSYNC_INTERVALS__ORDERS_S"),
        ("SHOPSYNC_APP_SECRETS", "SHOPSYNC_APP_SECRET"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str
) -> None:
    monkeypatch.setenv(name, "canary")
    (line,) = refusal()
    assert line.startswith(f"{name} is not a setting")
    assert line.endswith(f"did you mean {suggestion}?")


@pytest.mark.parametrize(
    "name", ["SHOPSYNC_XYZZY", "SHOPSYNC_APPS__US__COLOR", "SHOPSYNC_APPS__US", "SHOPSYNC_"]
)
def test_a_variable_like_nothing_known_is_refused_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "canary")
    (line,) = refusal()
    assert line.startswith(f"{name} is not a setting")
    assert "canary" not in line


def test_variables_of_others_and_of_the_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSYNCX", "1")
    monkeypatch.setenv("SHOPSYNC_TEST_DATABASE_URL", "postgresql://x/y")
    load_settings()


def test_several_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSYNC_SETTLE_S", "-1")
    monkeypatch.setenv("SHOPSYNC_LOG_LEVEL", "loud")
    monkeypatch.setenv("SHOPSYNC_WEB__PORT", "x")
    lines = refusal()
    assert len(lines) == 3
    assert {line.split(" ")[0] for line in lines} == {"settle_s", "log_level", "web.port"}


def test_a_value_and_a_file_for_it_are_one_too_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("canary")
    monkeypatch.setenv("SHOPSYNC_APP_SECRET", "canary")
    monkeypatch.setenv("SHOPSYNC_APP_SECRET_FILE", str(tmp_path / "s"))
    (line,) = refusal()
    assert "SHOPSYNC_APP_SECRET and SHOPSYNC_APP_SECRET_FILE are both set" in line


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x01", "folder", b""])
def test_a_secret_s_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "s"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    monkeypatch.setenv("SHOPSYNC_ENCRYPTION_KEY_FILE", str(path))
    (line,) = refusal()
    assert "SHOPSYNC_ENCRYPTION_KEY_FILE" in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ("app_secret = 'canary'", "app_secret"),
        ("database_url = 'postgresql://u:canary@h/d'", "database_url"),
        ("encryption_key = 'canary'", "encryption_key"),
        ("[web]\ntoken = 'canary'", "web.token"),
        ("[apps.us]\napp_secret = 'canary'", "apps.us.app_secret"),
        ("[[apps]]\napp_secret = 'canary'", "apps"),
        ("App_Secret = 'canary'", "App_Secret"),
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_shown(tmp_path: Path, toml: str, name: str) -> None:
    (line,) = refusal(toml, folder=tmp_path)
    assert name in line
    assert "canary" not in line


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ("[database]\nurl = 'x'", "did you mean SHOPSYNC_DATABASE_URL? That is a secret"),
        (
            "history_since = 'yesterday'",
            "history_since (SHOPSYNC_HISTORY_SINCE): is not a date; write it like",
        ),
        ("Settle_S = 5", "Settle_S is not a setting; did you mean settle_s?"),
        ("settel_s = 5", "settel_s is not a setting; did you mean settle_s?"),
        ("[web]\nprot = 1", "web.prot is not a setting"),
        ("[intervals]\nreturns_s = 1", "intervals.returns_s is not a setting"),
        ("[apps.us]\ncolor = 'x'", "apps.us.color is not a setting"),
        ("settle_s = 'x'", "settle_s (SHOPSYNC_SETTLE_S)"),
        ("web = 1", "web (SHOPSYNC_WEB)"),
        ("settle_s = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_fault(tmp_path: Path, toml: str | bytes, fault: str) -> None:
    (line,) = refusal(toml, folder=tmp_path)
    assert fault in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read: No such file"):
        load_settings(tmp_path / "absent.toml")
