"""What every command needs: the settings, a loop, and an orderly way to be stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console

from sync.errors import SettingsError, SyncError
from sync.log import set_up_logging
from sync.settings import Settings, load_settings

_T = TypeVar("_T")
_PIPE_WIDTH = 200
# Service managers kill after 30 s, and promise their operators less.
_CANCEL_AFTER_S = 20.0
_EXIT_AFTER_S = 23.0
# Who signals twice wants out; this is enough to give leases back when Postgres answers.
_EXIT_AFTER_SECOND_S = 8.0


class Interrupted(BaseException):
    """A person or the system ended the command before its work was done."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class State:
    """What stood before the command's name."""

    config: Path | None


def settings_of(context: typer.Context, *, shows_progress: bool = False) -> Settings:
    """The settings in force, with the logging set up by them."""
    state: State = context.obj
    settings = load_settings(state.config)
    level = settings.log_level
    if shows_progress and level == "info" and sys.stderr.isatty():
        level = "warning"  # A person watches the progress; every slice as a line would bury it.
    set_up_logging(level=level, log_format=settings.log_format)
    return settings


def results_console() -> Console:
    """Where results go: stdout, as wide as the terminal, and unwrapped where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


async def run_until_signal(work: Callable[[asyncio.Event], Awaitable[_T]], *, forced_code: int = 1) -> _T:
    """The result of ``work``, which is handed an event that SIGTERM, SIGHUP or Ctrl-C sets.

    A second signal cancels the work. Ctrl-C raises Interrupted once the work has ended. A work that
    does not end in time is cancelled, and if even that hangs (a frozen Postgres can do that to a
    driver) the process exits where it stands: nothing is half written anywhere.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    task = asyncio.ensure_future(work(stopping))
    received: list[signal.Signals] = []

    def receive(number: signal.Signals) -> None:
        received.append(number)
        stopping.set()
        if len(received) > 1:
            task.cancel()
            _exit_in(_EXIT_AFTER_SECOND_S, 128 + number)
            return
        loop.call_later(_CANCEL_AFTER_S, task.cancel)
        _exit_in(_EXIT_AFTER_S, 128 + number if number == signal.SIGINT else forced_code)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with suppress(NotImplementedError):  # Windows has no signals in its loop.
            loop.add_signal_handler(number, receive, number)
    try:
        result = await task
    except asyncio.CancelledError:
        if not received:
            raise
        if len(received) == 1 and received[0] != signal.SIGINT:
            raise Interrupted(forced_code) from None
        raise Interrupted(128 + received[-1]) from None
    except SyncError:
        # Whatever is incomplete is so because it was interrupted, and the caller knows that.
        if signal.SIGINT in received:
            raise Interrupted(130) from None
        raise
    if signal.SIGINT in received:
        raise Interrupted(130)
    return result


def _exit_in(seconds: float, code: int) -> None:
    """Ends the process then, unless it has ended; a thread, for the loop itself may hang."""
    killer = threading.Timer(seconds, os._exit, [code])
    killer.daemon = True
    killer.start()


def give_up_stdout() -> None:
    """What stdout could not take is gone: the interpreter would try again, and end with a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_moment(text: str | None, option: str) -> datetime | None:
    """The start of a day, or a moment, in UTC. Raises SettingsError that shows the right form."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option}: {text!r} is not a date; write it like {date.today():%Y-%m-%d} "  # noqa: DTZ011
            f"or {date.today():%Y-%m-%d}T14:00:00Z"  # noqa: DTZ011
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
