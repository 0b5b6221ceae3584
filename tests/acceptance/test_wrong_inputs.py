"""Whatever is wrong, a person gets a line that says what to do, and a script the right exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sync.simulator.server import RunningSimulator
from tests.acceptance.conftest import RunHere
from tests.acceptance.postgres import own_postgres
from tests.acceptance.processes import Bench, Finished, with_password
from tests.support import execute

_MOST_LINES = 3


def assert_refused(finished: Finished, *says: str, code: int = 2) -> None:
    """The command ended with the code and told why in a few lines, of which none is a traceback."""
    assert finished.code == code, finished.err
    assert 1 <= len(finished.complaints) <= _MOST_LINES, finished.complaints
    assert all(line.startswith("shopsync: ") for line in finished.complaints), finished.complaints
    text = " ".join(finished.complaints)
    for piece in says:
        assert piece in text, finished.complaints


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("backfill", "--since", "yesterday"), ("--since", "'yesterday' is not a date", "20")),
        (("backfill", "--until", "2025-13-01"), ("--until", "is not a date")),
        (("backfill", "--since", "2025-02-01", "--until", "2025-01-01"), ("not before --until",)),
        (("backfill", "--since", "2199-01-01"), ("in the future",)),
        (("backfill", "--stream", "refunds"), ("refunds", "orders, products")),
        (("--config", "/nonexistent.toml", "status"), ("/nonexistent.toml", "cannot be read")),
        (("simulator", "--host", "0.0.0.0"), ("loopback only",)),
        (
            ("simulator", "--notify-url", "https://sync.example.com/hook"),
            ("--notify-url", "this machine only"),
        ),
        (("simulator", "--redirect-url", "oauth/callback"), ("--redirect-url", "whole address")),
    ],
)
def test_a_wrong_argument_is_explained(
    run_here: RunHere, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    assert_refused(run_here(*arguments), *says)


async def test_an_unknown_option_is_named_with_its_usage(bench: Bench) -> None:
    finished = await bench.shopsync("backfill", "--sinc", "2025-01-01")
    assert finished.code == 2
    assert "No such option: --sinc" in finished.err
    assert "--since" in finished.err


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("backfill", "--since"), "shopsync backfill"),
        (("shops", "connect", "--code"), "shopsync shops connect"),
        (("--config",), "shopsync"),
    ],
)
def test_an_option_without_its_value_points_to_the_help_of_its_command(
    run_here: RunHere, arguments: tuple[str, ...], command: str
) -> None:
    assert_refused(run_here(*arguments), f"see `{command} --help`")


async def test_a_data_directory_that_cannot_be_made_is_no_fault_of_postgres(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    finished = await bench.shopsync(
        "status", DATABASE_URL=None, ENCRYPTION_KEY=None, DATA_DIR=str(tmp_path / "file" / "data")
    )
    assert_refused(finished, "data directory", "SHOPSYNC_DATA_DIR")
    assert "does not start" not in finished.err


def test_a_mistyped_command_is_guessed_at(run_here: RunHere) -> None:
    finished = run_here("backfil")
    assert_refused(finished, "'backfil'", "Did you mean 'backfill'? See `shopsync --help`")


async def test_a_wrong_setting_ends_a_process_as_it_ends_a_test(bench: Bench) -> None:
    finished = await bench.shopsync("backfill", SETTLE_S="soon")
    assert_refused(finished, "SHOPSYNC_SETTLE_S")


async def test_without_arguments_the_commands_are_listed(bench: Bench) -> None:
    finished = await bench.shopsync()
    assert finished.code == 2
    assert "backfill" in finished.out + finished.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"REQUESTS_PER_SECONDS": "10"}, ("SHOPSYNC_REQUESTS_PER_SECOND", "did you mean")),
        ({"SETTLE_S": "soon"}, ("SHOPSYNC_SETTLE_S",)),
        ({"API_URL": "http://open-api.tiktokglobalshop.com"}, ("SHOPSYNC_API_URL", "https://")),
        ({"DATABASE_URL": "mysql://u:canary-database-password@h/d"}, ("SHOPSYNC_DATABASE_URL",)),
        ({"ENCRYPTION_KEY": None}, ("SHOPSYNC_ENCRYPTION_KEY", "Make one with")),
        ({"ENCRYPTION_KEY": "c2hvcnQ="}, ("SHOPSYNC_ENCRYPTION_KEY", "32 bytes")),
        ({"APP_SECRET": None}, ("SHOPSYNC_APP_SECRET", "Partner Center")),
        ({"APP_SECRET": None, "APP_SECRET_FILE": "/nonexistent"}, ("SHOPSYNC_APP_SECRET_FILE", "/nonexist")),
    ],
)
def test_a_wrong_setting_is_explained(
    run_here: RunHere, changes: dict[str, str | None], says: tuple[str, ...]
) -> None:
    assert_refused(run_here("backfill", **changes), *says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("settle_s = = 5", "not valid TOML"),
        ("settle = 5", "settle is not a setting; did you mean settle_s?"),
        (
            'app_secret = "9d8c7b6a5f4e3d2c1b0a99887766554433221100"',
            "only from the environment",
        ),
    ],
)
def test_a_wrong_settings_file_is_explained(run_here: RunHere, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "shopsync.toml"
    file.write_text(text)
    assert_refused(run_here("--config", str(file), "status"), says)


async def test_an_unknown_shop_is_explained(connected: Bench) -> None:
    assert_refused(await connected.shopsync("backfill", "--shop", "123"), "123", "shopsync shops list")


async def test_no_connected_shop_is_explained(bench: Bench) -> None:
    assert_refused(await bench.shopsync("backfill"), "no shop is connected", "shopsync shops connect")


async def test_a_used_code_is_explained(bench: Bench, simulator: RunningSimulator) -> None:
    code = simulator.sellers()[0].code
    assert (await bench.shopsync("shops", "connect", "--code", code)).code == 0
    assert_refused(await bench.shopsync("shops", "connect", "--code", code), "works once", code=2)


async def test_a_database_that_refuses_connections_is_explained(bench: Bench) -> None:
    with socket.socket() as taken:  # Bound and not listening: a connection is refused for certain.
        taken.bind(("127.0.0.1", 0))
        url = with_password(f"postgresql://shopsync@127.0.0.1:{taken.getsockname()[1]}/shopsync")
        finished = await bench.shopsync("status", DATABASE_URL=url)
    assert_refused(finished, "cannot be reached", "SHOPSYNC_DATABASE_URL", code=1)


async def test_a_wrong_database_password_is_explained(bench: Bench) -> None:
    async with own_postgres() as server:
        rules = server.directory / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        await execute(server.url, "CREATE ROLE guarded LOGIN PASSWORD 'another one'")
        await execute(server.url, "SELECT pg_reload_conf()")
        url = server.url.replace("postgres:@", "guarded:canary-database-password@", 1)
        assert "guarded" in url
        finished = await bench.shopsync("status", DATABASE_URL=url)
    assert_refused(finished, "password", "SHOPSYNC_DATABASE_URL", code=1)


async def test_a_database_without_the_tables_is_explained(bench: Bench, empty_database_url: str) -> None:
    finished = await bench.shopsync("status", DATABASE_URL=with_password(empty_database_url))
    assert_refused(finished, "shopsync migrate", code=1)


async def test_a_newer_database_is_refused(bench: Bench, database_url: str) -> None:
    await execute(
        database_url, "INSERT INTO public.shopsync_scripts (name, checksum) VALUES ('9999_future', 'x')"
    )
    for command in ("migrate", "status"):
        assert_refused(await bench.shopsync(command), "9999_future", "upgrade shopsync", code=1)


async def test_a_taken_port_is_explained(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refused(await bench.shopsync("run", WEB__PORT=port), port, "SHOPSYNC_WEB__PORT")
        assert_refused(await bench.shopsync("simulator", "--port", port, "--orders", "0"), port)
