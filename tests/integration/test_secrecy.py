"""The looks for secrets find them: else they would prove nothing."""

from __future__ import annotations

import asyncpg
import pytest

from tests.secrecy import DATABASE_PASSWORD, secrets_at_rest, secrets_in
from tests.support import ENCRYPTION_KEY

TOKEN = "TTP_" + "a1B2c3D4e5F6" * 4

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("secret", [TOKEN, f"\n{TOKEN}", ENCRYPTION_KEY, DATABASE_PASSWORD])
async def test_a_secret_in_a_table_is_found_as_text_and_as_bytes(
    secret: str, database_url: str, connection: asyncpg.Connection
) -> None:
    assert await secrets_at_rest(database_url) == []
    await connection.execute("INSERT INTO sync.notifications (notification_id) VALUES ($1)", f"x {secret}")
    await connection.execute(
        "INSERT INTO sync.rejects (shop_id, stream, record_id, stored, reason, raw)"
        " VALUES ('1', 'orders', '1', false, '', $1)",
        f'{{"note": "{secret}"}}'.encode(),
    )
    assert sorted(await secrets_at_rest(database_url)) == ["sync.notifications", "sync.rejects"]
    await connection.execute("TRUNCATE sync.notifications, sync.rejects")


def test_a_test_that_prints_a_secret_fails(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makeconftest("from tests.conftest import pytest_runtest_makereport")
    pytester.makepyfile(f"def test_it():\n    print('token {TOKEN}')\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, errors=1)
    assert secrets_in(capsys.readouterr().out) != []  # Taken out of what this test itself printed.
