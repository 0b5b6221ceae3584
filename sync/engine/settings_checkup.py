"""Checks of the settings alone: nothing is asked of anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sync.engine.findings import Finding
from sync.engine.registrations import callback_url, check_receiver, most_local_api, receiver_address, url_of
from sync.errors import SettingsError
from sync.settings import DEFAULT_APP, App, Settings, is_loopback

_AREA = "settings"
START = "1. get an app (docs/connecting.md leads to it), 2. run `shopsync init`"
_CONSENT_HOSTS = {
    "services.tiktokshop.com": "global",
    "services.us.tiktokshop.com": "US",
    "services.tiktokshops.us": "US",
}
_PORTALS = {"us": "US", "usa": "US", "global": "global", "row": "global"}
_SERVICE_ID = re.compile(r"\d{10,}")


def looks_like_service_id(text: str) -> bool:
    """True for a long number: the usual mistake is to take one for the other."""
    return _SERVICE_ID.fullmatch(text) is not None


def check_settings(settings: Settings) -> list[Finding]:
    """What is complete and plausible in the settings, and what is not."""
    if settings.app_names == (DEFAULT_APP,) and not settings.app_key:
        findings = [Finding(_AREA, "problem", "no app is configured yet", START)]
    else:
        findings = [finding for name in settings.app_names for finding in _check_app(settings, name)]
        findings += _check_twins(settings)
    return [*findings, *_check_key(settings), *_check_web(settings)]


def _check_app(settings: Settings, name: str) -> Iterator[Finding]:
    try:
        app = settings.app(name)
    except SettingsError as error:
        yield Finding(_AREA, "problem", f"app {name} is not complete", str(error))
        return
    if looks_like_service_id(app.app_key):
        todo = "take the app key from the same page of Partner Center; it is shorter and has letters"
        yield Finding(_AREA, "warning", f"app {name}: its app key looks like a service id", todo)
    if not app.service_id:
        setting = "SHOPSYNC_SERVICE_ID" if name == DEFAULT_APP else f"apps.{name}.service_id"
        todo = f"set {setting} (Partner Center > App & Service > your app) before you connect sellers"
        yield Finding(_AREA, "warning", f"app {name} has no service id, so no consent link can be made", todo)
    elif not looks_like_service_id(app.service_id):
        todo = "with an app key in its place sellers read that this service does not exist"
        yield Finding(_AREA, "warning", f"app {name}: its service id is not a long number", todo)
    yield _check_portal(name, app)


def _check_portal(name: str, app: App) -> Finding:
    host = urlsplit(app.consent_url).hostname or ""
    portal = _CONSENT_HOSTS.get(host)
    expected = _PORTALS.get(name.lower())
    if portal is None and is_loopback(host):
        return Finding(_AREA, "ok", f"app {name} is set; its sellers consent at a simulator on this machine")
    if portal is None:
        todo = f"check consent_url: known are {', '.join(sorted(_CONSENT_HOSTS))}"
        return Finding(
            _AREA, "warning", f"app {name}: its sellers consent at {host}, which is not known", todo
        )
    if expected not in (None, portal):
        todo = "each portal has a consent page of its own: check consent_url, or rename the app"
        what = f"app {name}: its sellers consent at {host}, the page of the {portal} portal"
        return Finding(_AREA, "warning", what, todo)
    return Finding(_AREA, "ok", f"app {name} is set; its sellers consent at {host} ({portal} portal)")


def _check_twins(settings: Settings) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in settings.app_names:
        key = settings.app_key if name == DEFAULT_APP else settings.apps[name].app_key
        if key and key in seen:
            todo = "each portal gives an app of its own: check which key belongs where"
            yield Finding(_AREA, "warning", f"apps {seen[key]} and {name} have the same app key", todo)
        seen.setdefault(key, name)


def _check_key(settings: Settings) -> Iterator[Finding]:
    if settings.encryption_key is None and settings.database_url is not None:
        todo = "`shopsync init` makes one; keep a copy of it in your password store"
        yield Finding(_AREA, "problem", "SHOPSYNC_ENCRYPTION_KEY is not set", todo)


def _check_web(settings: Settings) -> Iterator[Finding]:
    web = settings.web
    url = url_of(web.host, web.port)
    # Where a proxy answers, everybody looks local to the server.
    is_open = bool(web.public_url) or not is_loopback(web.host)
    if is_open and (web.token is None or not web.token.get_secret_value()):
        todo = "set SHOPSYNC_WEB__TOKEN, for instance to what `openssl rand -hex 32` prints"
        yield Finding(_AREA, "problem", f"{web.public_url or url} is open to others and has no token", todo)
    yield Finding(_AREA, "ok", f"the redirect URL to enter in Partner Center is {callback_url(web, url)}")
    if not web.public_url:
        what = (
            "web.public_url is not set: TikTok Shop sends no notifications, and changes come with the rounds"
        )
        yield Finding(_AREA, "ok", what)
        return
    try:
        address = check_receiver(
            receiver_address(web.public_url), option="web.public_url", api_url=most_local_api(settings)
        )
    except SettingsError as error:
        todo = "notifications stay away until it is a name with https, as a proxy gives it"
        yield Finding(_AREA, "warning", str(error), todo)
    else:
        yield Finding(_AREA, "ok", f"the webhook URL to enter in Partner Center is {address}")


def check_files(settings: Settings, secret_files: Mapping[str, Path]) -> list[Finding]:
    """Who may read the files that hold secrets."""
    files = dict(secret_files)
    key_file = settings.data_path / "encryption.key"
    if settings.encryption_key is None and settings.database_url is None and key_file.exists():
        files["the key file"] = key_file
    findings = []
    for name, path in files.items():
        # What a container engine mounts there is open to all inside, and to nobody else.
        if path.is_relative_to("/run") or not path.exists():
            continue
        if path.stat().st_mode & 0o007:
            what = f"{name}: {path} can be read by every user of this machine"
            findings.append(Finding("files", "warning", what, f"chmod 600 {path}"))
    if settings.database_url is None and not _may_write(settings.data_path):
        todo = "set SHOPSYNC_DATA_DIR to a folder of yours, or SHOPSYNC_DATABASE_URL to a server of yours"
        what = f"the data directory {settings.data_path} cannot be written to"
        findings.append(Finding("files", "problem", what, todo))
    if files and not findings:
        findings.append(Finding("files", "ok", "no other user may read the files with the secrets"))
    return findings


def _may_write(path: Path) -> bool:
    """Whether files can be made there; what does not exist yet is judged by what it would be made in."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
