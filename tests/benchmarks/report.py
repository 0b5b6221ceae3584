"""What was measured, as tables for the terminal and for docs/performance.md."""

from __future__ import annotations

import io
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.processes import ROOT, Usage

PAGE = ROOT / "docs" / "performance.md"
_WIDTH = 170
_PAGE_ROWS = 100
_LIBRARIES = ("aiohttp", "asyncpg", "msgspec")


@dataclass(frozen=True, slots=True)
class Run:
    """One measured process; ``orders`` it moved."""

    name: str
    orders: int
    usage: Usage

    @property
    def per_second(self) -> float:
        return self.orders / self.usage.seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that a goal was set for; ``goal`` may be empty."""

    name: str
    value: str
    goal: str = ""


@dataclass(slots=True)
class Report:
    """Collects the runs and figures of one command and says each run as soon as it is known."""

    runs: list[Run] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    say: Callable[[str], None] = print

    def add_run(self, name: str, orders: int, usage: Usage) -> Run:
        run = Run(name, orders, usage)
        self.runs.append(run)
        self.say(
            f"{name}: {orders:,} orders in {usage.seconds:.1f} s, {run.per_second:,.0f}/s, CPU"
            f" {usage.cpu_s:.1f} s + {usage.postgres_cpu_s:.1f} s of Postgres, {usage.peak_rss_mib:.0f} MiB"
        )
        return run

    def add_figure(self, name: str, value: str, goal: str = "") -> None:
        self.figures.append(Figure(name, value, goal))
        self.say(f"  {name}: {value}")

    def render(self, notes: Sequence[str], *, server_version: str) -> str:
        """Both tables, the notes, and where and with what they were measured."""
        text = io.StringIO()
        console = Console(file=text, width=_WIDTH, highlight=False, color_system=None)
        console.print(_figures_table(self.figures))
        if self.runs:
            console.print()
            console.print(_runs_table(self.runs))
        for note in notes:
            console.print(f"\n{note}")
        console.print(f"\n{_provenance(server_version)}")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _figures_table(figures: Sequence[Figure]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("goal", justify="right")
    for one in figures:
        table.add_row(one.name, one.value, one.goal)
    return table


def _runs_table(runs: Sequence[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    for heading in (
        "orders", "seconds", "orders/s", "requests", "/ page", "mid /s", "worst s",
        "CPU s", "Postgres", "simulator", "MiB", "stolen",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        used = run.usage
        pages = -(-run.orders // _PAGE_ROWS)
        table.add_row(
            run.name,
            f"{run.orders:,}",
            f"{used.seconds:.1f}",
            f"{run.per_second:,.0f}",
            f"{used.requests:,}" if used.requests else "",
            f"{used.requests / pages:.2f}" if used.requests else "",
            f"{used.middle_rate:.1f}" if used.middle_rate else "",
            f"{used.worst_second}" if used.requests else "",
            f"{used.cpu_s:.1f}",
            f"{used.postgres_cpu_s:.1f}",
            f"{used.simulator_cpu_s:.1f}" if used.requests else "",
            f"{used.peak_rss_mib:.0f}",
            f"{used.stolen:.0%}",
        )
    return table


def _provenance(server_version: str) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}. {_cpu()}, {os.cpu_count()} cores, "
        f"{memory_gib:.0f} GiB, {platform.system()} {platform.release()}.\n"
        f"Python {platform.python_version()}, PostgreSQL {server_version}, {libraries}."
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    # The page that the figures go to differs by them.
    changed = git("status", "--porcelain", "--", ".", ":!docs/performance.md")
    return f"{commit} with local changes" if changed else commit


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so many of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def write(name: str, text: str) -> None:
    """The text stands in docs/performance.md between the markers of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = PAGE.read_text()
    fenced = f"{begin}\n```\n{text}\n```\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no {begin} … {end}")
    PAGE.write_text(pattern.sub(lambda _: fenced, page))
