"""The named statements of sql/queries. No SQL is written in Python."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sync.shipped import SQL

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


@cache
def load_queries(folder: Path = SQL / "queries") -> dict[str, str]:
    """Every statement by name. Raises ValueError when a name stands twice."""
    statements: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        _, *parts = _NAME.split(path.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"the statement {name!r} is defined twice, again in {path.name}")
            statements[name] = text.strip()
    return statements


def query(name: str) -> str:
    """The statement of that name."""
    return load_queries()[name]
