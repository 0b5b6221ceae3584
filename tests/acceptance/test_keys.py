"""``shopsync keys rotate``, and what a missing key looks like to whoever runs shopsync."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import asyncpg

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench, bench_environment
from tests.support import ENCRYPTION_KEY

NEW_KEY = base64.urlsafe_b64encode(bytes(range(100, 132))).decode()


async def test_a_key_is_rotated_and_the_old_one_dropped(connected: Bench) -> None:
    first = await connected.shopsync("keys", "rotate", ENCRYPTION_KEY=f"{NEW_KEY},{ENCRYPTION_KEY}")
    assert first.code == 0, first.err
    assert "4 of 4 stored tokens were sealed anew" in first.out
    assert "may be dropped" in first.out
    again = await connected.shopsync("keys", "rotate", ENCRYPTION_KEY=NEW_KEY)
    assert again.out.startswith("0 of 4")
    finished = await connected.shopsync("backfill", ENCRYPTION_KEY=NEW_KEY)
    assert finished.code == 0, finished.err
    assert NEW_KEY not in "".join((first.out, first.err, again.out, again.err, finished.out, finished.err))


async def test_a_wrong_key_is_one_line_and_wrong_usage(connected: Bench) -> None:
    for command in (("keys", "rotate"), ("backfill",), ("run", "--once"), ("run",)):
        finished = await connected.shopsync(*command, ENCRYPTION_KEY=NEW_KEY)
        assert finished.code == 2, command
        (line,) = finished.complaints
        assert "SHOPSYNC_ENCRYPTION_KEY" in line, command
        assert "add it behind the newest one" in line, command


async def test_the_key_file_of_an_embedded_database_is_rotated_by_the_command_alone(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    environment = bench_environment("", simulator.url)
    del environment["SHOPSYNC_DATABASE_URL"], environment["SHOPSYNC_ENCRYPTION_KEY"]
    bench = Bench(tmp_path, environment | {"SHOPSYNC_DATA_DIR": str(tmp_path / "data")})
    try:
        code = simulator.sellers()[0].code
        connected = await bench.shopsync("shops", "connect", "--code", code)
        assert connected.code == 0, connected.err
        path = tmp_path / "data" / "encryption.key"
        before = path.read_text()
        rotated = await bench.shopsync("keys", "rotate")
        assert rotated.code == 0, rotated.err
        assert "2 of 2 stored tokens were sealed anew" in rotated.out
        after = path.read_text()
        assert len(after.split()) == 1
        assert after != before
        simulator.simulation.accounts.expire_access_tokens()
        finished = await bench.shopsync("run", "--once")
        assert finished.code == 0, finished.err
    finally:
        await bench.close()


async def test_a_consent_that_ends_soon_shows_in_the_list_and_in_the_status(
    connected: Bench, connection: asyncpg.Connection
) -> None:
    quiet = await connected.shopsync("status")
    assert "consent ends" not in quiet.out
    ends = await connection.fetchval(
        "UPDATE sync.credentials SET refresh_expires_at = now() + interval '20 days' WHERE credential_id = 1"
        " RETURNING to_char(refresh_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    )
    said = await connected.shopsync("status")
    assert f"the consent ends on {ends}: let the seller consent again" in said.out
    told = json.loads((await connected.shopsync("status", "--json")).out)
    assert ends in {row["consent_ends_at"][:10] for row in told}
    listed = await connected.shopsync("shops", "list")
    assert "let the seller consent again" in listed.out
