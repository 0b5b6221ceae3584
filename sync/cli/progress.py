"""How far a sync is: bars where a person watches, plain lines where not. On stderr; results are stdout's."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from sync.cli.upkeep import duration
from sync.engine.requests import RunReport

_REFRESH_S = 0.25
_PLAIN_EVERY_S = 5.0
# Beyond this many shops a bar for each would fill the screen: one bar stands for all.
_MOST_BARS = 12
# Before that much is known a forecast would only frighten.
_FORECAST_AFTER_S = 3.0
_FORECAST_AFTER_SHARE = 0.02


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
    groups = [[report] for report in reports] if len(reports) <= _MOST_BARS else [list(reports)]
    columns = (
        TextColumn("{task.description}", style="bold", table_column=Column(no_wrap=True, max_width=28)),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True)),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        bars = [progress.add_task(_name(group), total=None, detail="") for group in groups]
        try:
            while True:
                _draw(progress, bars, groups, time.monotonic() - started)
                await asyncio.sleep(_REFRESH_S)
        finally:
            _draw(progress, bars, groups, time.monotonic() - started)


def _draw(
    progress: Progress, bars: Sequence[TaskID], groups: Sequence[Sequence[RunReport]], elapsed_s: float
) -> None:
    for bar, group in zip(bars, groups, strict=True):
        done, expected = _count(group)
        finished = all(state.finished for report in group for state in report.streams.values())
        progress.update(
            bar,
            description=_name(group),
            completed=1 if finished else done,
            total=1 if finished else expected or None,
            detail=_describe(group, elapsed_s, finished=finished),
        )


def _name(group: Sequence[RunReport]) -> str:
    return (group[0].name or group[0].shop_id) if len(group) == 1 else f"{len(group)} shops"


def _describe(group: Sequence[RunReport], elapsed_s: float, *, finished: bool) -> str:
    if all(report.outcome == "busy" for report in group):
        return "waits: another process syncs this shop"
    done, expected = _count(group)
    if finished:
        return f"{done:,} rows"
    if not expected:
        return "asking TikTok Shop how much there is"
    parts = [f"{done:,} of {expected:,} rows", requests_per_second(group, elapsed_s)]
    left_s = _time_left(done, expected, elapsed_s)
    if left_s is not None:
        parts.append(f"{duration(left_s)} left")
    return ", ".join(parts)


async def _lines(reports: Sequence[RunReport]) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(_PLAIN_EVERY_S)
        elapsed_s = time.monotonic() - started
        line = _describe(reports, elapsed_s, finished=False)
        waiting = sum(report.outcome == "busy" for report in reports)
        if 0 < waiting < len(reports):
            line += f", {waiting} shops wait for another process"
        print(line, file=sys.stderr, flush=True)


def _count(group: Sequence[RunReport]) -> tuple[int, int]:
    """Rows done, and rows expected as far as TikTok's counts are in."""
    states = [state for report in group for state in report.streams.values()]
    return sum(s.done for s in states), sum(max(s.expected, s.done) for s in states)


def requests_per_second(reports: Sequence[RunReport], elapsed_s: float) -> str:
    """The requests of all reports together over the time they took."""
    requests = sum(report.tally.requests for report in reports)
    return f"{requests / max(elapsed_s, 0.001):.1f} requests/s"


def _time_left(done: int, expected: int, elapsed_s: float) -> float | None:
    if elapsed_s < _FORECAST_AFTER_S or not _FORECAST_AFTER_SHARE * expected < done < expected:
        return None
    return elapsed_s * (expected - done) / done
