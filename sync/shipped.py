"""Where the SQL and the default settings lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "_shipped"

ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
SQL = ROOT / "sql"
DEFAULT_CONFIG = ROOT / "config" / "default.toml"
