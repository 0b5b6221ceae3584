"""``shopsync init`` writes what works, keeps secrets to itself, and never loses a key."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.conftest import RunHere
from tests.acceptance.processes import Finished

SHOPSYNC = Path(sys.executable).with_name("shopsync")
SECRET = "canary1canary1canary1canary1canary1canary1"
SECRETS = (SECRET, SECRET.replace("1", "2"))
DATABASE = "postgresql://shopsync:canary-password@127.0.0.1:1/shopsync"
ONE_APP = ("--app-key", "6abc1def2", "--service-id", "7412345678901234567", "--app-secret-file", "-")
TWO_APPS = (
    *ONE_APP,
    "--app-key",
    "6abc1def3",
    "--service-id",
    "7412345678901234568",
    "--app-secret-file",
    "-",
)


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a run writes, with an odd name on purpose."""

    path: Path

    def init(self, *arguments: str, typed: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SHOPSYNC, "init", "--dir", self.path, *arguments],
            input="".join(f"{line}\n" for line in typed),
            capture_output=True, text=True, timeout=60, check=False, env=bare_environment(),
        )  # fmt: skip

    def doctor(self) -> list[dict[str, str]]:
        """What the doctor says of the settings and files, started as ``init`` advises."""
        command = '. "$1/env" && "$2" --config "$1/shopsync.toml" doctor --json'
        done = subprocess.run(
            ["sh", "-c", command, "sh", self.path, SHOPSYNC],
            capture_output=True, text=True, timeout=60, check=False,
            env=bare_environment() | {
                "SHOPSYNC_API_URL": "http://127.0.0.1:1", "SHOPSYNC_AUTH_URL": "http://127.0.0.1:1",
                "SHOPSYNC_DATA_DIR": str(self.path / "data"),
            },
        )  # fmt: skip
        findings: list[dict[str, str]] = json.loads(done.stdout)["findings"]
        return [f for f in findings if f["area"] in ("settings", "files")]

    def secret(self, name: str) -> str:
        return (self.path / "secrets" / name).read_text().strip()


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOPSYNC_")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "it's my\tshop")


@pytest.mark.parametrize(
    ("portal", "has_database", "public"),
    [
        ("us", True, ""),
        ("global", False, "https://sync.example.com"),
        ("both", True, "https://sync.example.com"),
    ],
)
def test_what_it_writes_passes_the_doctor(
    folder: Folder, portal: str, has_database: bool, public: str
) -> None:
    apps = TWO_APPS if portal == "both" else ONE_APP
    database = ("--database-url-file", "-") if has_database else ("--embedded",)
    typed = [*SECRETS[: 2 if portal == "both" else 1], *([DATABASE] if has_database else [])]
    done = folder.init("--portal", portal, *apps, *database, "--public-url", public, "--yes", typed=typed)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    findings = folder.doctor()
    assert [f for f in findings if f["level"] != "ok"] == []
    said = " ".join(f["what"] for f in findings)
    assert ("US portal" in said) == (portal in ("us", "both"))
    assert ("global portal" in said) == (portal in ("global", "both"))
    assert ("sync.example.com/webhooks/tiktok" in said) == bool(public)
    assert (folder.path / "secrets" / "encryption_key").exists() == has_database
    assert (folder.path / "secrets" / "web_token").exists() == bool(public)
    assert "canary" not in (folder.path / "shopsync.toml").read_text() + (folder.path / "env").read_text()


def test_only_the_owner_may_read_the_secrets_which_are_cleaned(folder: Folder) -> None:
    (folder.path / "secrets").mkdir(parents=True, mode=0o755)
    quoted = f'  "{SECRET}" \t'  # Blanks and quotes of a copy are dropped.
    done = folder.init("--portal", "us", *ONE_APP, "--embedded", "--yes", "--force", typed=[quoted])
    assert done.returncode == 0, done.stderr
    assert folder.secret("app_secret") == SECRET
    assert stat.S_IMODE((folder.path / "secrets").stat().st_mode) == 0o700
    files = [*(folder.path / "secrets").iterdir(), folder.path / "env"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_nothing_is_overwritten_unless_told_and_the_encryption_key_never(
    folder: Folder, run_here: RunHere
) -> None:
    def init(*arguments: str, typed: Sequence[str]) -> Finished:
        return run_here("init", "--dir", str(folder.path), *arguments, typed=typed)

    arguments = ("--portal", "us", *ONE_APP, "--database-url-file", "-", "--yes")
    assert init(*arguments, typed=[SECRETS[0], DATABASE]).code == 0
    key = folder.secret("encryption_key")
    refused = init(*arguments, typed=[SECRETS[1], DATABASE])
    assert refused.code == 2
    assert "--force" in refused.err
    assert folder.secret("app_secret") == SECRETS[0]
    assert init(*arguments, "--force", typed=[SECRETS[1], DATABASE]).code == 0
    assert folder.secret("app_secret") == SECRETS[1]
    assert folder.secret("encryption_key") == key
    embedded = ("--portal", "us", *ONE_APP, "--embedded", "--yes", "--force")
    assert init(*embedded, typed=[SECRETS[1]]).code == 0
    assert folder.secret("encryption_key") == key
    (folder.path / "secrets" / "encryption_key").write_text("damaged")
    damaged = init(*arguments, "--force", typed=[SECRETS[0], DATABASE])
    assert damaged.code == 2
    assert "no encryption key" in damaged.err
    assert folder.secret("app_secret") == SECRETS[1]


FULL = ("--portal", "us", *ONE_APP, "--embedded", "--yes")


@pytest.mark.parametrize(
    ("arguments", "typed", "says"),
    [
        (("--portal", "us", "--yes"), (), "--app-key, --service-id, --app-secret-file, --database-url-file"),
        (("--portal", "both", *ONE_APP, "--embedded", "--yes"), (SECRET,), "twice"),
        (FULL, (), "holds nothing"),
        (FULL, ("canary canary",), "has a blank"),
        (("--portal", "us", *ONE_APP, "--database-url-file", "-", "--yes"), (SECRET, "canary"), "postgresql://"),
        ((*FULL, "--public-url", "https://192.0.2.1"), (SECRET,), "name"),
        ((*FULL, "--public-url", "https://sync.example.com/shopsync"), (SECRET,), "no path"),
        (
            ("--portal", "us", "--app-key", "7412345678901234567", *ONE_APP[2:], "--embedded", "--yes"),
            (SECRET,),
            "looks like the service id",
        ),
        (("--portal", "us", "--app-key", "x", *ONE_APP[2:], "--embedded", "--yes"), (SECRET,), "no app key"),
        (
            ("--portal", "us", *ONE_APP[:3], "6abc1def2", *ONE_APP[4:], "--embedded", "--yes"),
            (SECRET,),
            "no service id",
        ),
        (("--portal", "us", *ONE_APP[:-1], "/nonexistent", "--embedded", "--yes"), (), "/nonexistent"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_explained_and_leaves_nothing(
    folder: Folder, run_here: RunHere, arguments: tuple[str, ...], typed: tuple[str, ...], says: str
) -> None:
    done = run_here("init", "--dir", str(folder.path), *arguments, typed=typed)
    assert done.code == 2
    assert says in done.err
    assert "canary" not in done.out + done.err
    assert not folder.path.exists()


def test_a_person_is_asked_again_until_the_answer_fits(folder: Folder) -> None:
    answers = [
        ("Portal: ", "europe"), ("Portal: ", "us"),
        ("App key: ", "7412345678901234567"), ("App key: ", "6abc1def2"),
        ("number\\): ", "7412345678901234567"), ("shown\\): ", SECRET),
        ("Database: ", ""), ("Public address: ", "https://192.0.2.1"), ("Public address: ", ""),
    ]  # fmt: skip
    shown, code = converse([str(SHOPSYNC), "init", "--dir", str(folder.path)], answers)
    assert code == 0, shown
    assert "canary" not in shown
    assert "looks like the service id" in shown
    assert folder.secret("app_secret") == SECRET
    assert [f for f in folder.doctor() if f["level"] != "ok"] == []


def converse(command: list[str], answers: list[tuple[str, str]]) -> tuple[str, int]:
    """What a terminal showed, and the exit code; each prompt gets its answer."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, bare_environment())
    shown, seen = "", 0
    pending = list(answers)
    try:
        while True:
            if pending and (found := re.search(pending[0][0], shown[seen:])):
                seen += found.end()
                os.write(terminal, pending.pop(0)[1].encode() + b"\r")
            try:
                chunk = os.read(terminal, 4096)
            except OSError:  # Linux ends a terminal like this.
                break
            if not chunk:
                break
            shown += chunk.decode()
    finally:
        os.close(terminal)
    return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
