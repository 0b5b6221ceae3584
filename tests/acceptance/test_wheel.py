"""The built wheel is complete: it runs the demo from an environment with nothing else in it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.acceptance.processes import assert_discreet

_CHECKOUT = Path(__file__).parents[2]
_LONGEST_S = 240


async def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; fails the test when it fails."""
    unset = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if k not in unset and not k.startswith("SHOPSYNC_")}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), _LONGEST_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = printed.decode(errors="replace")
    assert process.returncode == 0, text
    return text


def find_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


async def test_the_demo_runs_from_the_wheel_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=_CHECKOUT)
    wheel = find_wheel(tmp_path)
    # The pip of this environment installs into that one, which saves a second pip.
    await run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=elsewhere)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--quiet", "--disable-pip-version-check", "--no-compile"),
    )
    await run(*pip, "--require-hashes", "-r", _CHECKOUT / "requirements.lock", cwd=elsewhere)
    await run(*pip, "--no-deps", wheel, cwd=elsewhere)
    printed = await run(python.with_name("shopsync"), "demo", "--exit", cwd=elsewhere)
    assert "are equal" in " ".join(printed.split())
    assert_discreet(printed)
