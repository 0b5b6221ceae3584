"""What the demo and the pages invite people to type works."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from sync.cli.summary import TRY

_ROOT = Path(__file__).parents[2]


def _statements() -> list[str]:
    found = list(TRY)
    for page in (_ROOT / "README.md", _ROOT / "docs" / "tables.md"):
        for block in re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL):
            found += [part for part in block.split(";") if re.search(r"(?im)^\s*(select|with)\b", part)]
    return found


@pytest.mark.parametrize("statement", _statements())
async def test_a_statement_that_people_are_shown_runs(connection: asyncpg.Connection, statement: str) -> None:
    await connection.fetch(statement)


def test_the_pages_show_statements() -> None:
    assert len(_statements()) >= 8
