"""What time it is, here and at TikTok."""

from __future__ import annotations

import time
from datetime import UTC, datetime

# The Date header has whole seconds, and the answer travelled: smaller differences are noise.
_NOISE_S = 2.0


class ApiClock:
    """TikTok's clock as far as its Date headers tell, so that a wrong local clock loses nothing.

    Signatures and the ends of windows follow it. Until an answer was seen it is the local clock.
    """

    def __init__(self) -> None:
        self.offset_s = 0.0

    def time(self) -> float:
        """Seconds since 1970 by TikTok's clock."""
        return time.time() + self.offset_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def learn(self, date_header: datetime, *, sent: float, received: float) -> None:
        """Follows the header when it disagrees by more than its own grain and the answer's travel."""
        # +0.5 s: the header is cut to whole seconds, so its middle is the best guess.
        difference = date_header.timestamp() + 0.5 - (sent + received) / 2
        if abs(difference - self.offset_s) > _NOISE_S + (received - sent) / 2:
            self.offset_s = difference if abs(difference) > _NOISE_S else 0.0


def utc_now() -> datetime:
    return datetime.now(UTC)
