"""The entry point leaves the interpreter as the program needs it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_SEEN = "import gc, sync.__main__; print(gc.isenabled(), gc.get_freeze_count() > 0)"

# Large blocks between small ones that stay: what a worker's heap looks like after a while.
_HOLES = """
import psutil, sync.__main__
me = psutil.Process()
before = me.memory_info().rss
first = b"x" * (30 << 20)
del first
large, small = [], []
for _ in range(40):
    large.append(b"x" * (2 << 20))
    small += [b"x" * 4096 for _ in range(8)]
grown = me.memory_info().rss - before
large.clear()
print(grown >> 20, (me.memory_info().rss - before) >> 20)
"""


def _run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_garbage_is_collected_again_once_the_imports_are_done() -> None:
    assert _run(_SEEN) == ["True", "True"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a trait of glibc")
def test_large_blocks_that_are_free_leave_no_holes_in_the_heap() -> None:
    grown_mib, left_mib = map(int, _run(_HOLES))
    assert grown_mib >= 80
    assert left_mib <= 8
