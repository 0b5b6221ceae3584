"""Plays seed after seed: python -m tests.simulation --first 0 --seeds 100."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.play import play
from tests.simulation.scenario import draw


def main() -> int:
    """0 when every run was right; each that was not has its lines, enough to repeat it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--slow", type=float, help="name the runs slower than so many times real time")
    options = parser.parse_args()
    began, failed, hours, requests, virtual_s = time.process_time(), 0, 0.0, 0, 0.0
    nemeses: Counter[str] = Counter()
    for seed in range(options.first, options.first + options.seeds):
        played = play(draw(seed), trace=print if options.trace else None)
        hours, requests = hours + played.shop_hours, requests + played.requests
        virtual_s += played.virtual_s
        nemeses.update(played.nemeses)
        if played.wrong is not None:
            failed += 1
            print(played, flush=True)
        speed = played.virtual_s / played.real_s
        if options.slow and speed < options.slow:
            print(f"seed {seed}: {speed:,.0f} x real time, {played.real_s:.2f} s, {played.requests} requests")
    real_s = time.process_time() - began
    print(
        f"{options.seeds} runs, {failed} wrong; {hours:,.0f} shop-hours in {real_s:.1f} s "
        f"({virtual_s / real_s:,.0f} x real time), {requests:,} requests; {dict(sorted(nemeses.items()))}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
