"""Bringing a database to this version: twice, from two processes, killed in the middle, and refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from sync.errors import DatabaseError
from sync.store.migrations import Script, list_migrations, migrate, migrate_database, pending
from tests.integration.store_probe import other_process
from tests.support import execute, with_database

FIRST = "CREATE TABLE public.one (a int); INSERT INTO public.one VALUES (1);"
SLOW = "CREATE TABLE public.two (a int); SELECT pg_sleep(60); INSERT INTO public.two VALUES (2);"
SLEEPERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'"
)
SLEEPING = f"SELECT EXISTS (SELECT {SLEEPERS})"


def write(folder: Path, **scripts: str) -> list[Script]:
    """These scripts in the folder, the names without their leading letter."""
    for name, text in scripts.items():
        (folder / f"{name[1:]}.sql").write_text(text)
    return [Script(path.stem, path) for path in sorted(folder.glob("*.sql"))]


@pytest.fixture
async def empty(empty_database_url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


async def noted(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT name FROM public.shopsync_scripts ORDER BY name")
    return [row[0] for row in rows]


async def wait_until(connection: asyncpg.Connection, question: str) -> None:
    async with asyncio.timeout(20):
        while not await connection.fetchval(question):
            await asyncio.sleep(0.01)


async def test_the_second_time_changes_nothing(empty: asyncpg.Connection) -> None:
    applied = await migrate(empty)
    assert applied[: len(list_migrations())] == [m.name for m in list_migrations()]
    snapshot = "SELECT name, checksum, applied_at FROM public.shopsync_scripts ORDER BY name"
    before = await empty.fetch(snapshot)
    assert await migrate(empty) == []
    assert await empty.fetch(snapshot) == before
    assert await pending(empty) == []


async def test_an_empty_database_lacks_every_migration(empty: asyncpg.Connection) -> None:
    assert await pending(empty) == [m.name for m in list_migrations()]


async def test_two_processes_at_once_do_the_work_once(empty_database_url: str, tmp_path: Path) -> None:
    scripts = {f"m{n:04}_s": f"CREATE TABLE public.t{n} (a int); SELECT pg_sleep(0.05);" for n in range(1, 6)}
    write(tmp_path, **scripts)
    arguments = ("migrate", empty_database_url, str(tmp_path))
    async with other_process(*arguments) as one, other_process(*arguments) as two:
        assert [await one.hear(), await two.hear()] == ["ready", "ready"]
        await asyncio.gather(one.tell("go"), two.tell("go"))
        said = await asyncio.gather(one.hear(), two.hear())
    applied = [json.loads(text) for text in said]
    assert sorted(applied[0] + applied[1]) == sorted(name[1:] for name in scripts)


async def test_many_real_migrations_at_once_end_well(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate_database(empty_database_url) for _ in range(4)))
    names = [name for one in applied for name in one]
    assert len(names) == len(set(names))
    assert {m.name for m in list_migrations()} <= set(names)


async def test_a_process_killed_in_the_middle_leaves_whole_migrations_only(
    empty: asyncpg.Connection, empty_database_url: str, tmp_path: Path
) -> None:
    write(tmp_path, m0001_first=FIRST, m0002_slow=SLOW)
    async with other_process("migrate", empty_database_url, str(tmp_path)) as other:
        assert await other.hear() == "ready"
        await other.tell("go")
        await wait_until(empty, SLEEPING)
        await other.kill()
    assert await noted(empty) == ["0001_first"]
    assert await empty.fetchval("SELECT to_regclass('public.two')") is None
    # The killed process's backend still sleeps and holds the lock: others wait for it, then go on.
    await empty.execute(f"SELECT pg_terminate_backend(pid) {SLEEPERS}")
    scripts = write(tmp_path, m0002_slow=SLOW.replace("60", "0"))
    assert await migrate(empty, migrations=scripts, views=[]) == ["0002_slow"]
    assert await empty.fetchval("SELECT a FROM public.two") == 2


async def test_a_migration_that_fails_leaves_nothing_and_can_be_repeated(
    empty: asyncpg.Connection, tmp_path: Path
) -> None:
    scripts = write(tmp_path, m0001_first=FIRST, m0002_bad="CREATE TABLE public.two (a int); SELECT 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty, migrations=scripts, views=[])
    assert await noted(empty) == ["0001_first"]
    assert await empty.fetchval("SELECT to_regclass('public.two')") is None
    scripts = write(tmp_path, m0002_bad="CREATE TABLE public.two (a int);")
    assert await migrate(empty, migrations=scripts, views=[]) == ["0002_bad"]


async def test_a_table_that_somebody_reads_for_long_is_not_barred_from_other_readers(
    empty: asyncpg.Connection,
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync.store.migrations._TRIES", 2)
    monkeypatch.setattr("sync.store.migrations._PAUSE_S", 0.0)
    write(tmp_path, m0001_first="CREATE SCHEMA tiktok; CREATE TABLE tiktok.one (a int);")
    scripts = write(tmp_path, m0002_next="ALTER TABLE tiktok.one ADD COLUMN b int;")
    await migrate(empty, migrations=scripts[:1], views=[])
    reader = await asyncpg.connect(empty_database_url, server_settings={"application_name": "dashboard"})
    async with reader.transaction():
        await reader.fetch("SELECT * FROM tiktok.one")
        with pytest.raises(DatabaseError, match=r"in use by pid .*dashboard.*tiktok\.one"):
            await asyncio.wait_for(migrate(empty, migrations=scripts, views=[]), 20)
        monkeypatch.setattr("sync.store.migrations._TRIES", 50)
        migrating = asyncio.create_task(migrate(empty, migrations=scripts, views=[]))
        other = await asyncpg.connect(empty_database_url)
        await wait_until(other, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        assert await asyncio.wait_for(other.fetch("SELECT * FROM tiktok.one"), 10) == []
        assert not migrating.done()
    assert await migrating == ["0002_next"]
    await asyncio.gather(reader.close(), other.close())


async def test_an_edited_migration_is_refused_by_name(empty: asyncpg.Connection, tmp_path: Path) -> None:
    await migrate(empty, migrations=write(tmp_path, m0001_first=FIRST), views=[])
    edited = write(tmp_path, m0001_first=FIRST + " ")
    with pytest.raises(DatabaseError, match="0001_first was changed"):
        await migrate(empty, migrations=edited, views=[])


async def test_a_newer_database_is_refused_and_not_touched(empty: asyncpg.Connection, tmp_path: Path) -> None:
    newer = write(tmp_path, m0001_first=FIRST, m0002_next="CREATE TABLE public.two (a int);")
    await migrate(empty, migrations=newer, views=[])
    view = Script("view v", tmp_path / "v.sql")
    view.path.write_text("CREATE VIEW public.v AS SELECT 1 AS a;")
    with pytest.raises(DatabaseError, match=r"newer than this shopsync \(it has 0002_next\)"):
        await migrate(empty, migrations=newer[:1], views=[view])
    assert await empty.fetchval("SELECT to_regclass('public.v')") is None


async def test_the_real_migrations_refuse_a_database_of_the_future(empty: asyncpg.Connection) -> None:
    await migrate(empty)
    await empty.execute("INSERT INTO public.shopsync_scripts VALUES ('9999_future', 'x')")
    for attempt in (migrate, pending):
        with pytest.raises(DatabaseError, match="9999_future"):
            await attempt(empty)


async def test_a_view_that_changed_is_applied_again_and_keeps_its_grants(
    empty: asyncpg.Connection, tmp_path: Path
) -> None:
    role = f"reader_{empty.get_server_pid()}"
    view = Script("view v", tmp_path / "v.sql")
    view.path.write_text("CREATE OR REPLACE VIEW public.v AS SELECT 1 AS a;")
    assert await migrate(empty, migrations=[], views=[view]) == ["view v"]
    await empty.execute(f"CREATE ROLE {role}; GRANT SELECT ON public.v TO {role}")
    try:
        view.path.write_text("CREATE OR REPLACE VIEW public.v AS SELECT 2 AS a;")
        again = Script("view v", view.path)
        assert await migrate(empty, migrations=[], views=[again]) == ["view v"]
        assert await migrate(empty, migrations=[], views=[again]) == []
        assert await empty.fetchval("SELECT a FROM public.v") == 2
        assert await empty.fetchval(f"SELECT has_table_privilege('{role}', 'public.v', 'SELECT')")
    finally:
        await empty.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_every_shipped_view_can_be_applied_again_over_itself(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute("UPDATE public.shopsync_scripts SET checksum = 'old' WHERE name LIKE 'view %'")
    applied = await migrate_database(database_url)
    assert applied
    assert all(name.startswith("view ") for name in applied)


@pytest.mark.parametrize(
    "names", [["0002_late"], ["0001_a", "0003_c"], ["0001_a", "0001_b"], ["1_a"], ["0001-a"], ["first"]]
)
def test_migrations_are_numbered_without_gaps(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="is not migration number"):
        list_migrations(tmp_path)


async def test_a_database_of_another_encoding_is_refused(server_url: str, empty_database_url: str) -> None:
    name = empty_database_url.partition("shopsync_test_")[2].partition("?")[0] + "_ascii"
    await execute(
        server_url, f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    )
    try:
        with pytest.raises(DatabaseError, match="encoding is SQL_ASCII"):
            await migrate_database(with_database(server_url, name))
    finally:
        await execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')
