"""Logging holds up nobody: not when its reader stands still, nor when the reader is gone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest
import structlog

from sync.log import set_up_logging
from tests.support import logging_restored

_LINE = "x" * 5000


@contextmanager
def logging_to_a_pipe() -> Iterator[int]:
    """Where what goes to stderr can be read; logging is set up."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK)
    # Not in a fixture: pytest puts its own stderr back before the test begins.
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as pipe, _to(pipe):
        yield reading


@contextmanager
def _to(pipe: TextIO) -> Iterator[None]:
    with logging_restored(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", pipe)
        set_up_logging(level="info", log_format="json")
        yield


def _log(lines: int) -> None:
    for number in range(lines):
        structlog.get_logger("tests.flow").info("page_stored", number=number, text=_LINE)


def _read_all(reading: int) -> list[str]:
    text = b""
    with suppress(BlockingIOError):
        while chunk := os.read(reading, 1 << 16):
            text += chunk
    return text.decode().splitlines()


def test_a_reader_that_stands_still_costs_lines_and_no_time() -> None:
    with logging_to_a_pipe() as reading:
        writing = threading.Thread(target=_log, args=(100,), daemon=True)
        writing.start()
        writing.join(20)
        is_waiting = writing.is_alive()
        whole = [line for line in _read_all(reading) if line.endswith("}")]
        writing.join(20)
        _read_all(reading)
        assert not is_waiting
        _log(1)
        told, last = (json.loads(line) for line in _read_all(reading) if line)
    assert told["event"] == "log_lines_dropped"
    assert told["count"] == 100 - len(whole) > 0
    assert last["number"] == 0


def test_a_reader_that_is_gone_is_no_error() -> None:
    with logging_to_a_pipe() as reading:
        os.close(reading)
        _log(3)


async def test_a_connection_given_up_while_it_was_made_is_not_reported() -> None:
    with logging_to_a_pipe() as reading:
        for text in ("unexpected connection_lost() call", "of another kind"):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"never retrieved: {text}", "exception": ConnectionError(text)}
            )
        (line,) = _read_all(reading)
    assert "of another kind" in line
