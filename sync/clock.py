"""What time it is, here and at TikTok."""

from __future__ import annotations

import time
from datetime import UTC, datetime

# The Date header has whole seconds, and the answer travelled: smaller differences are noise.
_NOISE_S = 2.0


class ApiClock:
    """TikTok's clock as far as its Date headers tell, so that a wrong local clock loses nothing.

    Signatures and the ends of windows follow it: a window that ends in TikTok's future would be
    noted as read before its rows exist. Between answers it runs with the monotonic clock, which no
    one sets. Until answers have confirmed or corrected it, it is the local clock, and ``is_known`` is False.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._rumour_s: float | None = None
        self.is_known = False

    @property
    def is_in_doubt(self) -> bool:
        """True when the last answer named another time, and none has borne it out yet."""
        return self._rumour_s is not None

    def time(self) -> float:
        """Seconds since 1970 by TikTok's clock."""
        return time.monotonic() + self._offset_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def latest(self) -> datetime:
        """The time as the last answer told it, borne out or not: for what one wrong answer harms little."""
        offset_s = self._offset_s if self._rumour_s is None else self._rumour_s
        return datetime.fromtimestamp(time.monotonic() + offset_s, UTC)

    def learn(self, date_header: datetime, *, sent: float, received: float) -> None:
        """Follows the header when it disagrees by more than its grain and the answer's travel.

        ``sent`` and ``received`` are monotonic. A new time is believed when two answers in a row agree on
        it, so that one stray header changes nothing, not even the first.
        """
        # +0.5 s: the header is cut to whole seconds, so its middle is the best guess.
        offset_s = date_header.timestamp() + 0.5 - (sent + received) / 2
        tolerance_s = _NOISE_S + (received - sent) / 2
        if abs(offset_s - self._offset_s) <= tolerance_s:
            self._rumour_s = None
            self.is_known = True
        elif self._rumour_s is not None and abs(offset_s - self._rumour_s) <= tolerance_s:
            self._offset_s = offset_s
            self._rumour_s = None
            self.is_known = True
        else:
            self._rumour_s = offset_s


def utc_now() -> datetime:
    return datetime.now(UTC)
