"""What the secrets of these tests look like, and where they must never be found."""

from __future__ import annotations

import re

import asyncpg

from sync.simulator.options import SimulatorOptions
from tests.support import ENCRYPTION_KEY

DATABASE_PASSWORD = "canary-database-password"
_FIXED = (SimulatorOptions().app_secret, ENCRYPTION_KEY, DATABASE_PASSWORD)
# Tokens, ciphers and authorization codes of the simulator begin like the first of these.
_WORDS = tuple(word.encode() for word in ("TTP_", "GCP_", "ROW_", *_FIXED))
_LONGEST = 200
# No word boundary before them: where a line break is written as an escape, a letter goes before.
_PATTERN = re.compile(rf"(?:TTP|GCP|ROW)_[\w-]{{16,}}|{'|'.join(map(re.escape, _FIXED))}")


def secrets_in(text: str) -> list[str]:
    """The secrets that stand in the text."""
    return _PATTERN.findall(text)


async def secrets_at_rest(url: str) -> list[str]:
    """Every table of the database in which a secret stands in clear.

    Ciphers are where requests take them from; they open nothing without a token.
    """
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name,"
            "       array_agg(a.attname::text) FILTER (WHERE a.atttypid = 'bytea'::regtype) AS binary"
            "  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            "  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relkind = 'r' AND n.nspname IN ('sync', 'tiktok', 'public') GROUP BY 1"
        )
        return [table["name"] for table in tables if await _tells(connection, table["name"], table["binary"])]
    finally:
        await connection.close()


async def _tells(connection: asyncpg.Connection, table: str, binary: list[str] | None) -> bool:
    """True when a secret stands in a row of the table, as text or as bytes."""
    looks = _Looks()
    columns = ["(to_jsonb(t) - 'cipher')::text" if table == "sync.shops" else "t::text"]
    columns += [f"encode(t.{column}, 'escape')" for column in binary or ()]
    await connection.copy_from_query(f"SELECT {', '.join(columns)} FROM {table} AS t", output=looks.read)
    return looks.found


class _Looks:
    """Looks through the pieces of a text, wherever it was cut."""

    def __init__(self) -> None:
        self.found = False
        self._last = b""

    async def read(self, piece: bytes) -> None:
        text = self._last + piece
        # Plain words first: a large table is read in a tenth of the time.
        if any(word in text for word in _WORDS):
            self.found |= bool(_PATTERN.search(text.decode(errors="replace")))
        self._last = text[-_LONGEST:]
