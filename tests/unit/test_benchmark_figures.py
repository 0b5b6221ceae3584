"""The figures of the benchmarks say what they claim to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.processes import Usage, middle_rate_of
from tests.benchmarks.report import Report


def test_the_rate_in_mid_run_ignores_a_slow_start_and_a_slow_end() -> None:
    slow_start = [(float(second), second * 2) for second in range(11)]
    steady = [(10 + second / 4, 20 + second * 12) for second in range(1, 17)]
    slow_end = [(14 + float(second), 212 + second * 2) for second in range(1, 11)]
    assert middle_rate_of(slow_start + steady + slow_end, 232) == pytest.approx(48, rel=0.01)


def test_a_run_too_short_to_have_a_middle_has_no_rate() -> None:
    assert middle_rate_of([(0.0, 0)], 10) is None


def test_only_what_stands_between_the_markers_is_rewritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    report.write("bench", r"new \1")
    report.write("bench", r"newer \1")
    assert page.read_text() == (
        "before\n<!-- bench:begin -->\n```\nnewer \\1\n```\n<!-- bench:end -->\nafter\n"
    )


def test_the_tables_show_what_a_run_took_of_whom() -> None:
    said: list[str] = []
    made = Report(say=said.append)
    usage = Usage(
        seconds=2,
        cpu_s=1.5,
        postgres_cpu_s=0.7,
        simulator_cpu_s=0.3,
        peak_rss_mib=99,
        requests=11,
        worst_second=6,
        middle_rate=None,
        stolen=0.034,
    )
    made.add_run("a run", 1_000, usage)
    text = made.render([], server_version="18.4")
    row = next(line for line in text.splitlines() if line.startswith("a run"))
    assert row.split()[2:] == ["1,000", "2.0", "500", "11", "1.10", "6", "1.5", "0.7", "0.3", "99", "3%"]
    assert "PostgreSQL 18.4" in text
