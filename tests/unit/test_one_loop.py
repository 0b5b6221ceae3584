"""A process has one event loop, and nothing of ours runs beside it that could use what belongs to it."""

from __future__ import annotations

import re
from pathlib import Path

import sync

ROOT = Path(sync.__file__).parent
_MAKES_A_LOOP = re.compile(
    r"asyncio\.(?:run|Runner|new_event_loop)\(|run_in_executor|run_coroutine_threadsafe"
)
_MAKES_A_WORKER = re.compile(r"threading\.Thread|ThreadPool|multiprocessing|concurrent\.futures|os\.fork")


def places(pattern: re.Pattern[str]) -> set[str]:
    """The modules in which the pattern is found."""
    files = ROOT.rglob("*.py")
    return {str(file.relative_to(ROOT)) for file in files if pattern.search(file.read_text())}


def test_no_module_makes_a_loop_or_a_worker_of_its_own() -> None:
    with_loops = places(_MAKES_A_LOOP)
    assert "cli/syncing.py" in with_loops
    # The refresher is a process of its own.
    assert {place for place in with_loops if not place.startswith("cli/")} == {"engine/refresher.py"}
    # It looks at the loop from outside, and touches nothing of it.
    assert places(_MAKES_A_WORKER) == {"jobs/stalls.py"}
