"""What the doctor says of settings, before it asks anybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from sync.engine.findings import Finding
from sync.engine.registrations import check_receiver
from sync.engine.settings_checkup import check_files, check_settings
from sync.errors import SettingsError
from sync.settings import App, Settings, load_settings

US = "https://services.us.tiktokshop.com/open/authorize"
GLOBAL = "https://services.tiktokshop.com/open/authorize"
SERVICE_ID = "7412345678901234567"
API = "https://open-api.tiktokglobalshop.com"


def settings(**changes: object) -> Settings:
    """Settings of one good app, changed."""
    made = load_settings(overrides={"app_key": "6abc1def2", "service_id": SERVICE_ID, **changes})
    return made.model_copy(update={"app_secret": SecretStr("a secret")})


def app(**changes: str) -> App:
    return App(
        **{"app_key": "6abc1def3", "service_id": SERVICE_ID, **changes}, app_secret=SecretStr("another")
    )


def faults(findings: list[Finding]) -> list[str]:
    return [f"{f.level}: {f.what}" for f in findings if f.level != "ok"]


def test_good_settings_have_no_fault() -> None:
    assert faults(check_settings(settings())) == []


@pytest.mark.parametrize(
    ("web", "url"),
    [
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8080"),
        ({"host": "::1", "port": 8181}, "http://[::1]:8181"),
        ({"public_url": "https://sync.example.com"}, "https://sync.example.com"),
    ],
)
def test_the_redirect_url_is_one_that_a_browser_can_open(web: dict[str, object], url: str) -> None:
    said = [finding.what for finding in check_settings(settings(web=web))]
    assert f"the redirect URL to enter in Partner Center is {url}/oauth/callback" in said


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"app_key": SERVICE_ID}, "looks like a service id"),
        ({"service_id": "6abc1def2"}, "not a long number"),
        ({"service_id": ""}, "no service id"),
        ({"consent_url": "https://example.com/open/authorize"}, "not known"),
        ({"web": {"public_url": "https://sync.example.com:8443"}}, "no port"),
        ({"web": {"public_url": "https://192.0.2.7"}}, "domain name"),
    ],
)
def test_an_odd_value_is_a_warning(changes: dict[str, object], fault: str) -> None:
    found = settings(**changes)
    web = found.web.model_copy(update={"token": SecretStr("a token")})
    (line,) = faults(check_settings(found.model_copy(update={"web": web})))
    assert line.startswith("warning: ")
    assert fault in line


@pytest.mark.parametrize("web", [{"public_url": "https://sync.example.com"}, {"host": "0.0.0.0"}])
def test_a_server_that_others_reach_needs_a_token(web: dict[str, str]) -> None:
    (line,) = faults(check_settings(settings(web=web)))
    assert line.startswith("problem: ")
    assert "no token" in line


@pytest.mark.parametrize(
    ("name", "url", "is_fine"),
    [
        ("us", US, True),
        ("us", GLOBAL, False),
        ("global", GLOBAL, True),
        ("global", US, False),
        ("mine", US, True),
    ],
)
def test_an_app_consents_at_the_portal_of_its_name(name: str, url: str, is_fine: bool) -> None:
    found = settings(app_key="").model_copy(update={"apps": {name: app(consent_url=url)}})
    assert (faults(check_settings(found)) == []) == is_fine


def test_an_incomplete_app_costs_only_its_own_line() -> None:
    found = settings().model_copy(update={"apps": {"us": app(app_key="", consent_url=US)}})
    (line,) = faults(check_settings(found))
    assert line == "problem: app us is not complete"


def test_one_key_for_two_apps_is_noticed() -> None:
    found = settings().model_copy(update={"apps": {"us": app(app_key="6abc1def2", consent_url=US)}})
    (line,) = faults(check_settings(found))
    assert "default and us have the same app key" in line


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_secret_that_everybody_may_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "app_secret"
    file.write_text("x")
    found = settings().model_copy(update={"data_dir": str(tmp_path)})
    file.chmod(0o604)
    assert len(faults(check_files(found, {"SHOPSYNC_APP_SECRET_FILE": file}))) == 1
    file.chmod(0o640)
    assert faults(check_files(found, {"SHOPSYNC_APP_SECRET_FILE": file})) == []


def test_a_data_directory_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = settings().model_copy(update={"data_dir": str(tmp_path / "file" / "data")})
    (line,) = faults(check_files(found, {}))
    assert "cannot be written" in line


@pytest.mark.parametrize(
    "address",
    [
        "http://sync.example.com/webhooks/tiktok", "https://192.0.2.7/x", "https://[2001:db8::1]/x",
        "https://sync.example.com:443/x", "https://localhost/x", "https://127.0.0.1/x", "https://intranet/x",
        "https://user@sync.example.com/x", "https://sync.example.com/x?token=1", "https://[::1/x", "nonsense",
        "https://sync.example.com/" + "x" * 255, "http://127.0.0.1:8080/x",
    ],
)  # fmt: skip
def test_an_address_that_tiktok_cannot_reach_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="--url: TikTok Shop cannot send"):
        check_receiver(address, option="--url", api_url=API)


@pytest.mark.parametrize(
    ("address", "api"),
    [
        ("https://sync.example.com/webhooks/tiktok", API),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:9000"),
        ("http://[::1]:8080/x", "http://localhost:9000"),
    ],
)
def test_an_address_that_can_be_reached_is_taken(address: str, api: str) -> None:
    assert check_receiver(address, option="--url", api_url=api) == address
