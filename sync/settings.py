"""Settings: the shipped TOML, then the operator's file, then the environment. Read once, at start."""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sync.errors import SettingsError
from sync.shipped import DEFAULT_CONFIG

_PREFIX = "SHOPSYNC_"
_SECRETS = ("app_secret", "database_url", "encryption_key")
DEFAULT_APP = "default"

Seconds = Annotated[int, Field(ge=0, le=7 * 86400)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class App(_Table):
    """One app of a partner portal. An address that is not given is the default app's."""

    app_key: str = ""
    app_secret: SecretStr = SecretStr("")
    service_id: str = ""
    consent_url: str = ""
    api_url: str = ""
    auth_url: str = ""

    @field_validator("consent_url", "api_url", "auth_url")
    @classmethod
    def _guard_url(cls, value: str) -> str:
        return _guard_address(value) if value else value


class Intervals(_Table):
    """Seconds between two rounds of each stream."""

    orders_s: Annotated[int, Field(ge=1)]
    products_s: Annotated[int, Field(ge=1)]
    inventory_s: Annotated[int, Field(ge=1)]
    warehouses_s: Annotated[int, Field(ge=1)]

    def of(self, stream: str) -> int:
        """Seconds between two rounds of the stream."""
        return int(getattr(self, f"{stream}_s"))


class Web(_Table):
    """Where the daemon's web server listens, and under which address others reach it."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    public_url: str = ""
    token: SecretStr | None = None

    @field_validator("public_url")
    @classmethod
    def _guard_url(cls, value: str) -> str:
        address = _guard_address(value) if value else value
        if urlsplit(address).path:
            raise ValueError("must have no path: give the server a name of its own, or a proxy at its root")
        return address


class Settings(BaseSettings):
    """The settings in force; ``config/default.toml`` documents each."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = None
    app_key: str
    app_secret: SecretStr = SecretStr("")
    service_id: str
    consent_url: str
    encryption_key: SecretStr | None = None
    api_url: str
    auth_url: str
    data_dir: str
    requests_per_second: Annotated[float, Field(ge=1, le=1000)]
    parallel_slices: Annotated[int, Field(ge=1, le=500)]
    parallel_shops: Annotated[int, Field(ge=1, le=10_000)]
    settle_s: Seconds
    lookback_s: Seconds
    reread_open_orders_s: Annotated[int, Field(ge=0, le=30 * 86400)]
    verify_every_s: Annotated[int, Field(ge=0, le=365 * 86400)]
    ledger_days: Annotated[int, Field(ge=1, le=3650)]
    history_since: date
    database_pool_size: Annotated[int, Field(ge=2, le=200)]
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["auto", "json", "console"]
    intervals: Intervals
    web: Web
    apps: dict[str, App] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("api_url", "auth_url", "consent_url")
    @classmethod
    def _guard_url(cls, value: str) -> str:
        return _guard_address(value)

    @field_validator("database_url", "encryption_key")
    @classmethod
    def _guard_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.field_name == "encryption_key":
            split_keys(value.get_secret_value())
        elif value is not None:
            parts = urlsplit(value.get_secret_value())
            if parts.scheme not in ("postgresql", "postgres"):
                raise ValueError("must look like postgresql://user:password@host:5432/name")
            if "@" in parts.path + parts.query + parts.fragment:
                # Half of the password would be taken for the host, tried as a name and shown.
                raise ValueError("/, ? and # in the password must be written as %2F, %3F and %23")
        return value

    @property
    def history_start(self) -> datetime:
        return datetime(self.history_since.year, self.history_since.month, self.history_since.day, tzinfo=UTC)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir or platformdirs.user_data_dir("shopsync")).expanduser()

    def app(self, name: str) -> App:
        """The app of that name; raises SettingsError when it is not configured completely."""
        if name == DEFAULT_APP:
            app = App(app_key=self.app_key, app_secret=self.app_secret, service_id=self.service_id)
            prefix = _PREFIX
        else:
            if name.lower() not in self.apps:
                known = ", ".join(sorted([DEFAULT_APP, *self.apps]))
                raise SettingsError(f"no app is called {name!r}: known are {known}; add [apps.{name}]")
            app = self.apps[name.lower()]
            prefix = f"{_PREFIX}APPS__{name.upper()}__"
        values = {"APP_KEY": app.app_key, "APP_SECRET": app.app_secret.get_secret_value()}
        missing = " and ".join(prefix + name for name, value in values.items() if not value)
        if missing:
            raise SettingsError(f"{missing} must be set: see Partner Center > App & Service > your app")
        hosts = ("consent_url", "api_url", "auth_url")
        return app.model_copy(update={host: getattr(app, host) or getattr(self, host) for host in hosts})

    @property
    def app_names(self) -> tuple[str, ...]:
        """The apps of the settings, the default one first if it is among them."""
        return (*((DEFAULT_APP,) if self.app_key or not self.apps else ()), *sorted(self.apps))


def _guard_address(value: str) -> str:
    parts = urlsplit(value)
    is_web = parts.scheme in ("http", "https") and parts.port != 0
    if not is_web or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a whole address, which begins with https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must start with https:// (plain http is accepted on loopback addresses only)")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_keys(text: str) -> list[bytes]:
    """The 32-byte keys in the setting, newest first; ValueError tells how to make one."""
    keys = []
    for part in text.split(","):
        try:
            key = base64.urlsafe_b64decode(part.strip())
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            raise ValueError(
                "must be URL-safe base64 of 32 bytes; make one with: "
                "python3 -c 'import base64,os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            )
        keys.append(key)
    return keys


def load_settings(config: Path | None = None, *, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force. Raises SettingsError with one line for each fault.

    ``overrides`` are for a command that brings its own world (the demo): they win, and the
    environment counts for the logging only, so that no real shop is ever touched.
    """
    base = _read_toml(DEFAULT_CONFIG)
    if config is not None:
        _merge(base, _read_toml(config))
    _merge(base, dict(overrides or {}))
    saved = dict(os.environ)
    try:
        for name in saved if overrides is not None else ():
            if name.startswith(_PREFIX) and not name.startswith(f"{_PREFIX}LOG_"):
                del os.environ[name]
        _resolve_files(os.environ.copy())
        _refuse_unknown_variables()
        return Settings(**base)
    except ValidationError as error:
        raise SettingsError("\n".join(_describe(e) for e in error.errors())) from None
    finally:
        os.environ.clear()
        os.environ.update(saved)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from None
    for name in values.keys() - Settings.model_fields.keys():
        raise SettingsError(f"{path}: {name} is not a setting{_hint_for_toml(name.lower())}")
    if isinstance(values.get("apps"), dict):
        # Environment variables know no case: an app must find its secret there.
        values["apps"] = {name.lower(): app for name, app in values["apps"].items()}
    if secrets := sorted(_secret_names(values)):
        raise SettingsError(
            f"{path} holds {', '.join(secrets)}, but secrets are not read from TOML, "
            "only from the environment (SHOPSYNC_...) or from files (SHOPSYNC_..._FILE)"
        )
    return values


def _secret_names(values: Mapping[str, Any], path: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _secret_names(value, f"{path}{key}.")
        elif key in _SECRETS or f"{path}{key}" == "web.token":
            found.append(f"{path}{key}")
    return found


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _resolve_files(environment: Mapping[str, str]) -> None:
    """Puts the content of each SHOPSYNC_X_FILE where SHOPSYNC_X would be."""
    for name, path in environment.items():
        if not (name.startswith(_PREFIX) and name.endswith("_FILE")):
            continue
        del os.environ[name]
        if not path:
            continue
        plain = name.removesuffix("_FILE")
        if environment.get(plain):
            raise SettingsError(f"{plain} and {name} are both set: keep one")
        try:
            content = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise SettingsError(f"{name}: the file {path} cannot be read: {reason}") from None
        if not content:
            raise SettingsError(f"{name}: the file {path} is empty")
        os.environ[plain] = content


def secret_files() -> dict[str, Path]:
    """The files that the environment names for secrets, by variable."""
    return {
        name: Path(path)
        for name, path in os.environ.items()
        if name.startswith(_PREFIX) and name.endswith("_FILE") and path
    }


def _refuse_unknown_variables() -> None:
    tables: dict[str, type[_Table]] = {"INTERVALS": Intervals, "WEB": Web}
    known = {f.upper() for f in Settings.model_fields} - tables.keys() - {"APPS"}
    for table, model in tables.items():
        known |= {f"{table}__{f.upper()}" for f in model.model_fields}
    for name in sorted(os.environ):
        if not name.upper().startswith(_PREFIX) or name.upper().startswith(f"{_PREFIX}TEST_"):
            continue
        rest = name.upper().removeprefix(_PREFIX)
        parts = rest.split("__")
        if rest in known or (len(parts) == 3 and parts[0] == "APPS" and parts[2].lower() in App.model_fields):
            continue
        raise SettingsError(f"{name} is not a setting{_hint(rest, known, prefix=_PREFIX)}")


def _hint(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else "; config/default.toml lists the settings"


def _hint_for_toml(name: str) -> str:
    known = set(Settings.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    if close and close[0] in _SECRETS:
        # Under that name TOML refuses it too.
        return f"; did you mean {_PREFIX}{close[0].upper()}? That is a secret, and goes into the environment"
    return _hint(name, known)


def _describe(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting"
    variable = _PREFIX + name.replace(".", "__").upper()
    if error["type"].startswith("date_"):
        return f"{name} ({variable}): is not a date; write it like 2020-01-31"
    return f"{name} ({variable}): {message[0].lower()}{message[1:]}"
