"""What ``--help`` shows can be read in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sync.cli.main import app

_WIDTH = 80


def commands(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, the program's own help first."""
    yield path
    for name, command in getattr(found, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_help_has_whole_words_and_paragraphs_in_80_columns(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(_WIDTH)}).output
    lines = shown.splitlines()
    assert max(map(len, lines)) <= _WIDTH
    assert "…" not in shown
    prose = [(a, b) for a, b in pairwise(lines) if a.strip() and b.strip() and a[0] == b[0] == " "]
    broken = [a for a, b in prose if len(f"{a.rstrip()} {b.split()[0]}") < _WIDTH]
    assert broken == []
