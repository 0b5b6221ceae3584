"""The entry point leaves the interpreter as the program needs it."""

from __future__ import annotations

import subprocess
import sys

_SEEN = "import gc, sync.__main__; print(gc.isenabled(), gc.get_freeze_count() > 0)"


def test_garbage_is_collected_again_once_the_imports_are_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SEEN], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True"]
