"""The files that ``shopsync init`` writes: settings, secrets, and the environment that names them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path

from sync.errors import SettingsError
from sync.settings import DEFAULT_APP, load_settings, split_keys

CONSENT_URLS = {
    "us": "https://services.us.tiktokshop.com/open/authorize",
    "global": "https://services.tiktokshop.com/open/authorize",
}


@dataclass(frozen=True, slots=True)
class AppAnswers:
    """One app as Partner Center shows it; ``name`` is "default", or the portal's where there are two."""

    name: str
    portal: str
    app_key: str
    service_id: str
    app_secret: str


@dataclass(frozen=True, slots=True)
class Answers:
    """All that is asked for. Without a database address an embedded PostgreSQL is used."""

    apps: tuple[AppAnswers, ...]
    database_url: str
    public_url: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything goes."""

    directory: Path

    @property
    def settings(self) -> Path:
        return self.directory / "shopsync.toml"

    @property
    def environment(self) -> Path:
        return self.directory / "env"

    @property
    def secrets(self) -> Path:
        return self.directory / "secrets"

    def existing(self) -> list[Path]:
        """What an earlier run, or a person, has left there."""
        return [path for path in (self.settings, self.environment, self.secrets) if path.exists()]


def check_answers(answers: Answers) -> None:
    """Returns when settings made of these load; raises SettingsError that names each fault."""
    default = {app.name: app for app in answers.apps}.get(DEFAULT_APP)
    overrides: dict[str, object] = {"web": {"public_url": answers.public_url}}
    if answers.database_url:
        overrides["database_url"] = answers.database_url
    if default is not None:
        overrides |= {"app_key": default.app_key, "service_id": default.service_id}
    load_settings(overrides=overrides)


def write_files(answers: Answers, places: Places) -> list[Path]:
    """The files are there, each written whole; the paths of those that are new.

    Keys that were made before are kept: what the encryption key has sealed opens with no other. The
    environment comes last, so that what it names is there.
    """
    places.directory.mkdir(parents=True, exist_ok=True)
    places.secrets.mkdir(mode=0o700, exist_ok=True)
    places.secrets.chmod(0o700)
    kept_key = _read_kept_key(places)
    values = {_secret_variable(app.name): app.app_secret for app in answers.apps}
    if answers.database_url:
        values["SHOPSYNC_DATABASE_URL"] = answers.database_url
        # The embedded database has its key beside it, and may hold tokens that only that one opens.
        values["SHOPSYNC_ENCRYPTION_KEY"] = kept_key or base64.urlsafe_b64encode(os.urandom(32)).decode()
    if answers.public_url:
        token_file = _secret_file(places, "SHOPSYNC_WEB__TOKEN")
        kept_token = token_file.read_text().strip() if token_file.exists() else ""
        values["SHOPSYNC_WEB__TOKEN"] = kept_token or secrets.token_hex(32)
    written = []
    for name, value in values.items():
        path = _secret_file(places, name)
        if name == "SHOPSYNC_ENCRYPTION_KEY" and kept_key:
            path.chmod(0o600)
        else:
            _write(path, value + "\n", mode=0o600)
            written.append(path)
    # Whoever keeps the folder in a repository does not commit the secrets by accident.
    _write(places.secrets / ".gitignore", "*\n", mode=0o600)
    _write(places.settings, render_settings(answers), mode=0o644)
    _write(places.environment, _render_environment(places, list(values)), mode=0o600)
    return [*written, places.settings, places.environment]


def render_settings(answers: Answers) -> str:
    """The settings file. It holds no secret."""
    lines = ["# Written by `shopsync init`. config/default.toml documents every setting."]
    for app in answers.apps:
        lines += [
            "",
            *([] if app.name == DEFAULT_APP else [f"[apps.{app.name}]"]),
            f"app_key = {_quote(app.app_key)}",
            f"service_id = {_quote(app.service_id)}",
            f"consent_url = {_quote(CONSENT_URLS[app.portal])}",
        ]
    if answers.public_url:
        lines += ["", "[web]", f"public_url = {_quote(answers.public_url)}"]
    return "\n".join(lines) + "\n"


def _render_environment(places: Places, names: list[str]) -> str:
    lines = ["# Written by `shopsync init`, to be sourced: the files that hold the secrets."]
    lines += [f"export {name}_FILE={shlex.quote(str(_secret_file(places, name)))}" for name in sorted(names)]
    return "\n".join(lines) + "\n"


def _secret_variable(app_name: str) -> str:
    return (
        "SHOPSYNC_APP_SECRET" if app_name == DEFAULT_APP else f"SHOPSYNC_APPS__{app_name.upper()}__APP_SECRET"
    )


def _secret_file(places: Places, variable: str) -> Path:
    return places.secrets / variable.removeprefix("SHOPSYNC_").replace("__", "_").lower()


def _read_kept_key(places: Places) -> str:
    """The encryption key of an earlier run; raises SettingsError for something else in its place."""
    path = _secret_file(places, "SHOPSYNC_ENCRYPTION_KEY")
    try:
        text = path.read_text().strip()
        split_keys(text)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} is there and is no encryption key: restore it from a backup, or move it away; without "
            "the right one every seller must consent again"
        ) from error
    return text


def _quote(text: str) -> str:
    # A TOML basic string is escaped like JSON's.
    return json.dumps(text)


def _write(path: Path, text: str, *, mode: int) -> None:
    """The file holds the text, all of it or what it held before, and nobody else could ever read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
