"""What the secrets of these tests look like, and where they must never be found."""

from __future__ import annotations

import re

import asyncpg

from sync.simulator.options import SimulatorOptions
from tests.support import ENCRYPTION_KEY

DATABASE_PASSWORD = "canary-database-password"
# Tokens, ciphers and authorization codes of the simulator.
_FORM = r"\m(TTP|GCP|ROW)_[[:alnum:]_-]{16,}"
_FIXED = (SimulatorOptions().app_secret, ENCRYPTION_KEY, DATABASE_PASSWORD)
_WORDS = ("TTP_", "GCP_", "ROW_", *_FIXED)
_PATTERN = re.compile(rf"\b(?:TTP|GCP|ROW)_[\w-]{{16,}}|{'|'.join(map(re.escape, _FIXED))}")


def secrets_in(text: str) -> list[str]:
    """The secrets that stand in the text."""
    return _PATTERN.findall(text)


async def secrets_at_rest(url: str) -> list[str]:
    """Every table of the database in which a secret stands in clear.

    Ciphers are where requests take them from; they open nothing without a token.
    """
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name,"
            "       array_agg(a.attname::text) FILTER (WHERE a.atttypid = 'bytea'::regtype) AS binary"
            "  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            "  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relkind = 'r' AND n.nspname IN ('sync', 'tiktok', 'public') GROUP BY 1"
        )
        looks = []
        for table in columns:
            texts = [f"encode(t.{column}, 'escape')" for column in table["binary"] or ()]
            whole = "(to_jsonb(t) - 'cipher')::text" if table["name"] == "sync.shops" else "t::text"
            # Looking for plain words first: a large table is read in a tenth of the time.
            found = " OR ".join(
                f"({' OR '.join(f'strpos({text}, {word!r}) > 0' for word in _WORDS)}) AND {text} ~ $1"
                for text in (whole, *texts)
            )
            looks.append(
                f"SELECT '{table['name']}' WHERE EXISTS (SELECT FROM {table['name']} AS t WHERE {found})"
            )
        pattern = "|".join((_FORM, *_FIXED))
        return [row[0] for row in await connection.fetch(" UNION ALL ".join(looks), pattern)]
    finally:
        await connection.close()
