"""``shopsync init``: asks for the few values, and writes settings and secrets that work."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from sync.cli.init_files import Answers, AppAnswers, Places, check_answers, write_files
from sync.engine.registrations import check_receiver, receiver_address
from sync.engine.settings_checkup import looks_like_service_id
from sync.errors import SettingsError
from sync.settings import DEFAULT_APP, load_settings

_PORTAL_HELP = """Which Partner Center is your app from?
  us      partner.us.tiktokshop.com: a company in the US that sells in the US
  global  partner.tiktokshop.com: everybody else
  both    a US company that sells elsewhere too has an app in each"""
_DATABASE_HELP = """Where is the Postgres? Like postgresql://user:password@host:5432/name (it is not shown).
Leave it empty for an embedded PostgreSQL on this machine."""
_PUBLIC_HELP = """Under which address can TikTok Shop reach this machine, such as https://sync.example.com?
Leave it empty without one: consents work on this machine, and changes come with the rounds."""


_SHORTEST_KEY = 5


class Portal(StrEnum):
    us = "us"
    global_ = "global"
    both = "both"


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says; None is asked for, or left out where nobody can be asked."""

    portal: Portal | None
    app_keys: Sequence[str]
    service_ids: Sequence[str]
    secret_files: Sequence[str]
    database_file: str | None
    embedded: bool
    public_url: str | None


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example:  shopsync init --portal us --app-key 6abc1def2 --service-id 7412345678901234567 "
        "--app-secret-file - --embedded --yes < secret.txt"
    )(init)


def init(
    portal: Annotated[
        Portal | None, typer.Option(help="The Partner Center that the app is from.", show_default=False)
    ] = None,
    app_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="With --portal both: twice, the US app's first.")
    ] = None,
    service_id: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="The long number of the same page.")
    ] = None,
    app_secret_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Holds the app secret; - reads a line of stdin.")
    ] = None,
    database_url_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Holds the database's address; - reads a line of stdin."),
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use an embedded PostgreSQL on this machine.")
    ] = False,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where TikTok Shop reaches this machine, by https.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to write; your settings folder if absent."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: what is missing is an error.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write files anew that are there. The encryption key is kept.")
    ] = False,
) -> None:
    """Write the settings file, the secrets and the environment that names them.

    It asks for what the options leave open. Secrets are typed unseen, or come from files or stdin;
    they are never arguments, and never shown.
    """
    places = Places((directory or Path(platformdirs.user_config_dir("shopsync"))).expanduser().absolute())
    if (existing := places.existing()) and not force:
        names = ", ".join(str(path) for path in existing)
        raise SettingsError(
            f"there already: {names}. --force writes anew and keeps the encryption key; or give another --dir"
        )
    given = Given(
        portal,
        app_key or (),
        service_id or (),
        app_secret_file or (),
        database_url_file,
        embedded,
        public_url,
    )
    answers = _collect(given, can_ask=not yes and sys.stdin.isatty())
    check_answers(answers)
    try:
        written = write_files(answers, places)
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be written: {error.strerror}") from error
    _explain(answers, places, written)


def _collect(given: Given, *, can_ask: bool) -> Answers:
    if not can_ask:
        _refuse_gaps(given)
    portal = given.portal
    if portal is None:
        typer.echo(_PORTAL_HELP)
        portal = Portal(_ask("Portal", _check_portal))
    names = ["us", "global"] if portal is Portal.both else [portal.value]
    apps = tuple(
        _collect_app(given, index, DEFAULT_APP if len(names) == 1 else name, portal=name)
        for index, name in enumerate(names)
    )
    return Answers(apps, _collect_database(given, can_ask), _collect_public_url(given, can_ask))


def _refuse_gaps(given: Given) -> None:
    """Raises SettingsError that names every option which is missing, since nobody can be asked."""
    apps = 2 if given.portal is Portal.both else 1
    missing = [
        f"{option}{' (twice: the US app first)' if apps == 2 else ''}"
        for option, values in (
            ("--app-key", given.app_keys),
            ("--service-id", given.service_ids),
            ("--app-secret-file", given.secret_files),
        )
        if len(values) != apps
    ]
    if given.portal is None:
        missing.insert(0, "--portal")
    if not given.embedded and given.database_file is None:
        missing.append("--database-url-file or --embedded")
    if missing:
        raise SettingsError(f"nobody can be asked here, so these must be given: {', '.join(missing)}")


def _collect_app(given: Given, index: int, name: str, *, portal: str) -> AppAnswers:
    label = "" if name == DEFAULT_APP else f"{portal} app: "
    if len(given.app_keys) <= index:
        typer.echo(f"\n{label}see Partner Center > App & Service > your app.")

    def choose(values: Sequence[str], text: str, check: Callable[[str], str]) -> str:
        return check(values[index]) if index < len(values) else _ask(f"{label}{text}", check)

    app_key = choose(given.app_keys, "App key", _check_app_key)
    service_id = choose(given.service_ids, "Service id (a long number)", _check_service_id)
    if index < len(given.secret_files):
        secret = _check_secret(_read_secret(given.secret_files[index], "--app-secret-file"))
    else:
        secret = _ask(f"{label}App secret (it is not shown)", _check_secret, is_hidden=True)
    if secret in (app_key, service_id):
        raise SettingsError("the app secret is the app key or the service id: copy the secret itself")
    return AppAnswers(name, portal, app_key, service_id, secret)


def _collect_database(given: Given, can_ask: bool) -> str:
    if given.embedded and given.database_file is not None:
        raise SettingsError("--embedded and --database-url-file exclude each other")
    if given.embedded:
        return ""
    if given.database_file is not None:
        return _check_database(_read_secret(given.database_file, "--database-url-file"))
    typer.echo(f"\n{_DATABASE_HELP}")
    return _ask("Database", _check_database, is_hidden=True) if can_ask else ""


def _collect_public_url(given: Given, can_ask: bool) -> str:
    if given.public_url is not None:
        return _check_public_url(given.public_url)
    if not can_ask:
        return ""
    typer.echo(f"\n{_PUBLIC_HELP}")
    return _ask("Public address", _check_public_url)


def _ask(text: str, check: Callable[[str], str], *, is_hidden: bool = False) -> str:
    """What the person typed, once it passes; until then it is asked for again."""
    while True:
        value: str = typer.prompt(text, default="", show_default=False, hide_input=is_hidden)
        try:
            return check(value)
        except SettingsError as error:
            typer.echo(f"  {error}")


def _read_secret(path: str, option: str) -> str:
    try:
        text = sys.stdin.readline() if path == "-" else Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{option}: {path} cannot be read: {reason}") from None
    if not text.strip():
        raise SettingsError(f"{option}: {'stdin' if path == '-' else path} holds nothing")
    return text


def _clean(text: str, what: str) -> str:
    """Without the blanks and quotes that copying brings along; raises SettingsError for what remains odd."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not text:
        raise SettingsError(f"the {what} is missing")
    if not text.isprintable() or not text.isascii() or any(mark in text for mark in " \"'`"):
        raise SettingsError(f"the {what} has a blank, a quote or a strange letter in it: copy it once more")
    return text


def _check_portal(text: str) -> str:
    if (name := text.strip().lower()) not in [*Portal]:
        raise SettingsError(f"write one of {', '.join(Portal)}")
    return name


def _check_app_key(text: str) -> str:
    key = _clean(text, "app key")
    if looks_like_service_id(key):
        raise SettingsError("this looks like the service id: the app key is shorter and has letters")
    if len(key) < _SHORTEST_KEY or not key.isalnum():
        raise SettingsError("this is no app key: that is a dozen letters and digits")
    return key


def _check_service_id(text: str) -> str:
    service_id = _clean(text, "service id")
    if not looks_like_service_id(service_id):
        raise SettingsError("this is no service id: that is a long number, and not the app key")
    return service_id


def _check_secret(text: str) -> str:
    return _clean(text, "app secret")


def _check_database(text: str) -> str:
    if not text.strip():
        return ""
    url = _clean(text, "database address")
    load_settings(overrides={"database_url": url})
    return url


def _check_public_url(text: str) -> str:
    if not text.strip():
        return ""
    url = _clean(text, "public address").rstrip("/")
    check_receiver(receiver_address(url), option="public address", api_url="")
    return url


def _explain(answers: Answers, places: Places, written: Sequence[Path]) -> None:
    for path in written:
        typer.echo(f"wrote {path}")
    if answers.database_url:
        typer.echo(
            f"Put {places.secrets / 'encryption_key'} into your password store: without it every seller"
        )
        typer.echo("must consent again.")
    command = f"shopsync --config {shlex.quote(str(places.settings))}"
    env = shlex.quote(str(places.environment))
    typer.echo(f"\nNext:  . {env} && {command} doctor")
    typer.echo(f"then:  {command} migrate")
    for app in answers.apps:
        chosen = "" if app.name == DEFAULT_APP else f" --app {app.name}"
        typer.echo(f"and:   {command} shops connect{chosen}")
