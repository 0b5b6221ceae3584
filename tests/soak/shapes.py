"""Pages with records of every unheard-of shape, from bytes to Postgres: no page fails, no neighbour is lost.

    python -m tests.soak.shapes [--examples 300] [--seed N]

So many pages of each stream; tests/shape_stage.py says what must hold for each of them.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

from sync.streams.registry import STREAMS
from tests.shape_stage import try_pages
from tests.soak.server import own_database


def main() -> int:
    """The exit code; prints what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the shapes")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"seed {arguments.seed}", flush=True)
    wrong = 0
    with own_database() as (_, url):
        for stream in STREAMS:
            started = time.monotonic()
            try:
                try_pages(url, stream, examples=arguments.examples, seed=arguments.seed)
            except AssertionError as error:
                wrong += 1
                print(f"{stream}: {error}", flush=True)
            else:
                took_s = time.monotonic() - started
                print(f"{stream}: {arguments.examples} pages held, {took_s:.0f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
