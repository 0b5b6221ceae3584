"""What operators see has to stand in the manual: events, metrics, settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel

from sync import metrics
from sync.settings import App, Intervals, Settings, Web
from sync.shipped import DEFAULT_CONFIG

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "operations.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def calls_of_log(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("log", "logger", "_log")
        ):
            yield node


def names_in(node: ast.expr) -> list[str]:
    """Every event that the first argument of a call may be."""
    if isinstance(node, ast.IfExp):
        return names_in(node.body) + names_in(node.orelse)
    assert isinstance(node, ast.Constant), f"line {node.lineno}: an event's name is not written out"
    assert isinstance(node.value, str)
    return [node.value]


def events() -> dict[str, str]:
    """Every event in the code, and where."""
    return {
        name: f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted((ROOT / "sync").rglob("*.py"))
        for call in calls_of_log(path)
        for name in names_in(call.args[0])
    }


def metric_names() -> list[str]:
    return sorted({family.name for family in metrics.REGISTRY.collect()})


def setting_names() -> list[str]:
    tables: dict[str, type[BaseModel]] = {"web": Web, "intervals": Intervals}
    plain = [name for name in Settings.model_fields if name not in (*tables, "apps")]
    return plain + [f"{table}.{name}" for table, model in tables.items() for name in model.model_fields]


def documented(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(word)}(?![\w])", text) is not None


def test_there_are_events_and_metrics_to_look_for() -> None:
    assert "slice_covered" in events()
    assert "shopsync_requests" in metric_names()


def test_every_event_is_a_noun_and_a_past_tense() -> None:
    assert [name for name in events() if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []


def test_every_event_stands_in_the_manual() -> None:
    text = MANUAL.read_text()
    assert {name: place for name, place in events().items() if not documented(name, text)} == {}


def test_every_metric_stands_in_the_manual() -> None:
    text = MANUAL.read_text()
    # Prometheus shows counters with a suffix.
    missing = [n for n in metric_names() if not documented(n, text) and not documented(f"{n}_total", text)]
    assert missing == []


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_stands_in_the_default_file(name: str) -> None:
    text = DEFAULT_CONFIG.read_text()
    table, _, key = name.rpartition(".")
    if re.search(rf"^# *SHOPSYNC_{name.replace('.', '__').upper()}\b", text, re.MULTILINE):
        return
    section = text.partition(f"\n[{table}]\n")[2].partition("\n[")[0] if table else text.partition("\n[")[0]
    assert re.search(rf"^{key} = ", section, re.MULTILINE)


@pytest.mark.parametrize("name", App.model_fields)
def test_every_setting_of_an_app_stands_in_the_default_file(name: str) -> None:
    assert documented(name, DEFAULT_CONFIG.read_text()) or f"__{name.upper()}" in DEFAULT_CONFIG.read_text()


def test_every_setting_in_the_default_file_has_a_comment() -> None:
    lines = DEFAULT_CONFIG.read_text().splitlines()
    bare = [line for before, line in pairwise(lines) if re.match(r"\w+ = ", line) and not before.strip()]
    assert bare == []
