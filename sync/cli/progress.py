"""How far a sync is: bars where a person watches, plain lines where not. On stderr; results are stdout's."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sync.cli.upkeep import duration
from sync.engine.requests import RunReport

_REFRESH_S = 0.25
_PLAIN_EVERY_S = 5.0


class _Detail(ProgressColumn):
    """Rows, requests per second and the time left, in one readable piece."""

    def render(self, task: Task) -> Text:
        detail = str(task.fields.get("detail", ""))
        return Text(detail)


@asynccontextmanager
async def shown(reports: Sequence[RunReport]) -> AsyncIterator[None]:
    """The reports are shown as they grow, until the context ends."""
    display = _bars if sys.stderr.isatty() else _lines
    task = asyncio.create_task(display(reports))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _bars(reports: Sequence[RunReport]) -> None:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        _Detail(),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bars: dict[tuple[int, str], TaskID] = {}
        for index, report in enumerate(reports):
            for stream in report.streams:
                label = f"{report.name or report.shop_id}  {stream}"
                bars[index, stream] = progress.add_task(label, total=None, detail="")
        try:
            while True:
                _draw(progress, bars, reports, time.monotonic() - started)
                await asyncio.sleep(_REFRESH_S)
        finally:
            _draw(progress, bars, reports, time.monotonic() - started)


def _draw(
    progress: Progress, bars: dict[tuple[int, str], TaskID], reports: Sequence[RunReport], elapsed_s: float
) -> None:
    for (index, stream), bar in bars.items():
        report = reports[index]
        state = report.streams[stream]
        tally = state.tally
        total = max(state.expected, state.done) or None
        if state.finished:
            total = max(state.done, 1)
        rate = f"{tally.requests / elapsed_s:.1f} req/s" if elapsed_s > 1 and tally.requests else ""
        left_s = _time_left(state.done, state.expected, elapsed_s)
        left = f"{duration(left_s)} left" if left_s is not None and not state.finished else ""
        rows = f"{state.done:,} rows"
        if report.outcome == "busy":
            rows = "waiting: another process syncs this shop"
        progress.update(
            bar,
            completed=total if state.finished else state.done,
            total=total,
            description=f"{report.name or report.shop_id}  {stream}",
            detail="  ".join(part for part in (rows, rate if not state.finished else "", left) if part),
        )


async def _lines(reports: Sequence[RunReport]) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(_PLAIN_EVERY_S)
        elapsed_s = time.monotonic() - started
        print(summary_line(reports, elapsed_s), file=sys.stderr, flush=True)


def summary_line(reports: Sequence[RunReport], elapsed_s: float) -> str:
    """Rows, rate and time left of all reports together."""
    states = [state for report in reports for state in report.streams.values()]
    done = sum(state.done for state in states)
    expected = sum(max(state.expected, state.done) for state in states)
    left_s = _time_left(done, expected, elapsed_s)
    line = f"{done:,} of {expected:,} rows, {requests_per_second(reports, elapsed_s)}"
    if left_s is not None:
        line += f", {duration(left_s)} left"
    waiting = sum(report.outcome == "busy" for report in reports)
    if waiting:
        line += f", {waiting} shops wait for another process"
    return line


def requests_per_second(reports: Sequence[RunReport], elapsed_s: float) -> str:
    """The requests of all reports together over the time they took."""
    requests = sum(report.tally.requests for report in reports)
    return f"{requests / max(elapsed_s, 0.001):.1f} requests/s"


def _time_left(done: int, expected: int, elapsed_s: float) -> float | None:
    if done <= 0 or expected <= done or elapsed_s < 1:
        return None
    return elapsed_s * (expected - done) / done
