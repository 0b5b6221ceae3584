"""When a shop's next round is due: each shop at a moment of its own."""

from __future__ import annotations

import random
import zlib

# A day is a whole number of the usual intervals, so the streams of a shop come due together.
_PHASES_S = 86_400.0
_LEAST_SHARE = 0.25


def due_in_s(shop_id: str, interval_s: float, *, now: float) -> float:
    """Seconds from ``now`` (since 1970) until the shop's next round.

    A round comes at the same point of every interval, which the shop's id decides. However
    many shops were read at once, after a first connection or an outage, from their next round on they
    are spread evenly. The step to that point takes between a quarter of the interval and 1.25 of it.
    """
    phase_s = zlib.crc32(shop_id.encode()) / 2**32 * _PHASES_S
    wait_s = (phase_s - now) % interval_s
    return wait_s if wait_s >= interval_s * _LEAST_SHARE else wait_s + interval_s


def spread(seconds: float) -> float:
    """A little more or less, so that what failed together is not tried again together."""
    return seconds * random.uniform(0.95, 1.05)
