"""How fast shopsync is, at the limit, without one, on a long history and at rest.

    python -m tests.benchmarks [--quick] [--write] [--only NAME]...

Every part runs in processes of its own, so that CPU and memory are those of the part. Rows are
compared with the truth after each run; wrong ones end the benchmark.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sync.log import set_up_logging
from tests.benchmarks.postgres import open_server
from tests.benchmarks.processes import FailedError, end_in_order
from tests.benchmarks.product import Bench
from tests.benchmarks.report import Report, write
from tests.benchmarks.scenarios import QUICK, SCENARIOS, Sizes


def main(arguments: argparse.Namespace) -> int:
    """The exit code; prints the tables, and writes them where asked to."""
    set_up_logging(level="warning", log_format="auto")
    end_in_order()
    sizes, report = QUICK if arguments.quick else Sizes(), Report()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shopsync-bench-") as name:
        folder = Path(name)
        # Postgres may run as a user of its own.
        folder.chmod(0o755)
        with open_server(folder) as server:
            try:
                for scenario in arguments.only or SCENARIOS:
                    SCENARIOS[scenario](Bench(folder, server), sizes, report)
            except FailedError as error:
                print(f"nothing is reported: {error}", file=sys.stderr)
                return 1
            minutes = (time.monotonic() - started) / 60
            text = report.render([f"Took {minutes:.0f} minutes."], server_version=server.version)
    print(f"\n{text}")
    if arguments.write:
        write("bench", text)
    return 0


def parse() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything work?")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    parser.add_argument("--only", action="append", choices=tuple(SCENARIOS), help="only this scenario")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parse()))
