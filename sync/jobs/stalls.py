"""Says where the event loop stands still: for as long as it does, no shop is synced and no lease renewed."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

# Leases outlive ten times as much; on a busy machine shorter stops mean nothing.
_NOTED_S = 1.0
_BEATS = 4
_MOST_FRAMES = 12


@contextmanager
def watching_for_stalls(*, noted_s: float = _NOTED_S) -> Iterator[None]:
    """While the block runs, each stop of the loop that takes longer is logged once, with where it stands."""
    loop, beat_s = asyncio.get_running_loop(), noted_s / _BEATS
    watched = threading.get_ident()
    ended = threading.Event()
    beaten_at = time.monotonic()
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal beaten_at, timer
        beaten_at = time.monotonic()
        timer = loop.call_later(beat_s, beat)

    def watch() -> None:
        noted_at = 0.0
        while not ended.wait(beat_s):
            stood_s = time.monotonic() - beaten_at
            if stood_s > noted_s and noted_at != beaten_at:
                noted_at = beaten_at
                frame = sys._current_frames().get(watched)
                stack = traceback.format_stack(frame)[-_MOST_FRAMES:] if frame else []
                log.warning("loop_stalled", seconds=round(stood_s, 2), stack="".join(stack))

    beat()
    watcher = threading.Thread(target=watch, name="watch over the loop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        if timer is not None:
            timer.cancel()
        watcher.join()
