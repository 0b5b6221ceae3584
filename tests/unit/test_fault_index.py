"""docs/faults.md: every fault stands there once, with tests that exist or a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "faults.md"
# The letter of each section's rows, and how many there are.
SECTIONS = {"A": 55, "D": 25, "P": 20}
_LEAST_TESTED = 90
_REASON = "none: "


def rows() -> list[list[str]]:
    """The cells of every row of every table."""
    lines = INDEX.read_text().splitlines()
    found = [
        re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines if re.match(r"\| *[A-Z]\d", line)
    ]
    return [[cell.strip() for cell in cells] for cells in found]


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def named_in(cell: str) -> list[str]:
    return re.findall(r"tests/[\w/]+\.py::\w+", cell)


def is_there(test: str) -> bool:
    path, _, name = test.partition("::")
    file = ROOT / path
    return name.startswith("test_") and file.is_file() and name in names_in(file)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_fault_of_a_section_stands_in_it_once_and_in_order(section: str) -> None:
    numbers = [int(cells[0][1:]) for cells in rows() if cells[0][0] == section]
    assert numbers == list(range(1, SECTIONS[section] + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_fault_has_tests_that_exist_or_a_reason(row: list[str]) -> None:
    assert len(row) == 4, "four columns: row, fault, what shopsync does, test"
    assert all(row)
    named = named_in(row[3])
    assert [test for test in named if not is_there(test)] == []
    assert len(named) == row[3].count("::"), "a test is named as tests/path.py::test_name"
    if not named:
        assert row[3].startswith(_REASON)
        assert len(row[3]) > len(_REASON) + 10, "a reason is more than a word"


def test_most_faults_have_a_test() -> None:
    untested = [cells[0] for cells in rows() if not named_in(cells[3])]
    assert len(untested) <= sum(SECTIONS.values()) - _LEAST_TESTED, untested
