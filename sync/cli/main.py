"""The command line: one place that parses, and one that turns errors into a line and an exit code."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

import sync
from sync.cli import demo, doctor, explain, init, keys, shops, simulate, syncing, upkeep, verify, webhooks
from sync.cli.state import Interrupted, State, give_up_stdout
from sync.errors import AppError, IncompleteError, SettingsError, SyncError
from sync.log import redact

INCOMPLETE = 1
WRONG_USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="shopsync",
    help="Copies every connected TikTok Shop's orders, products and inventory into Postgres.",
    epilog="Try it without an account:  shopsync demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shopsync {sync.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _configure(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Settings in TOML, over the defaults, under the environment."
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="The version, and no more."),
    ] = False,
) -> None:
    context.obj = State(config=config)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USAGE)


for module in (demo, simulate, upkeep, syncing, verify, explain, doctor, init):
    module.register(app)
app.add_typer(shops.app, name="shops")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")


def main() -> None:
    """Runs the command and exits: 0 done, 1 incomplete, 2 wrong usage or settings, 130 interrupted."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        code = _run(errors)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Whoever read stdout has gone (`| head`), and nothing can be said to them; or a disk is full.
        if error.errno == errno.ENOSPC:
            said = f"{error.strerror}: make room where the output goes, and run it again"
            _complain(errors, SyncError(said))
        give_up_stdout()
        code = INCOMPLETE
    sys.exit(code)


def _run(errors: Console) -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", None) or _command_meant(sys.argv[1:])
        said = error.format_message().rstrip(".")
        said += " See" if said.endswith("?") else "; see"
        _complain(errors, SettingsError(f"{said} `{command} --help`"))
        return WRONG_USAGE
    except (SettingsError, AppError) as error:
        _complain(errors, error)
        return WRONG_USAGE
    except (IncompleteError, SyncError) as error:
        _complain(errors, error)
        return INCOMPLETE
    except Interrupted as signal:
        return signal.code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED


def _command_meant(arguments: list[str]) -> str:
    """The command that the arguments begin with: an option without its value is refused namelessly."""
    command = typer.main.get_command(app)
    path = ["shopsync"]
    for argument in arguments:
        if argument in (found := getattr(command, "commands", {})):
            command = found[argument]
            path.append(argument)
    return " ".join(path)


def _complain(console: Console, error: SyncError) -> None:
    for line in redact(str(error)).splitlines():
        console.print(f"shopsync: {line}", markup=False)
