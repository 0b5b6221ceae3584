"""When orders are placed: a daily and weekly rhythm, some growth, and one flash sale."""

from __future__ import annotations

import random
from dataclasses import dataclass

_DAY_S = 86_400
# Share of a day's orders by local hour: a quiet night, a lunch bump, a long evening.
_HOURS = (2, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 9, 8, 6, 6, 6, 7, 9, 12, 14, 13, 9, 5)
# Monday first. 1970-01-01 was a Thursday.
_WEEKDAYS = (8, 7, 7, 8, 10, 14, 15)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The arrival times of one shop's orders up to ``now``."""

    now: int
    days: int
    utc_offset_h: int
    rng: random.Random

    def flash_minutes(self) -> tuple[int, int]:
        """The first second of the flash sale's minute, and of the one when all its orders were completed."""
        start = (self.now - self.days * _DAY_S * 6 // 10) // 60 * 60
        done = (min(start + 12 * _DAY_S, self.now - 3600)) // 60 * 60
        return start, max(done, start + 60)

    def creation_times(self, ordinary: int, flash: int) -> list[int]:
        """Unix seconds in no order: by rhythm, a few very fresh, and the flash sale in one minute."""
        rng = self.rng
        start, _ = self.flash_minutes()
        times = [start + int(rng.random() ** 2 * 60) for _ in range(flash)]
        fresh = ordinary // 50
        # Some of these minutes, some of these hours: orders that are not paid, or still on hold.
        times += [self.now - 1 - int(rng.random() * (600 if n % 6 == 0 else 21_600)) for n in range(fresh)]
        days = [self.now - (self.days - day) * _DAY_S for day in range(self.days)]
        weights = [self._weight(start_of_day, place) for place, start_of_day in enumerate(days)]
        for start_of_day in rng.choices(days, weights, k=ordinary - fresh):
            local_midnight = (start_of_day // _DAY_S) * _DAY_S - self.utc_offset_h * 3600
            (hour,) = rng.choices(range(24), _HOURS)
            times.append(min(local_midnight + hour * 3600 + int(rng.random() * 3600), self.now - 1))
        return times

    def _weight(self, day: int, place: int) -> float:
        weekday = ((day + self.utc_offset_h * 3600) // _DAY_S + 3) % 7
        return _WEEKDAYS[weekday] * (1 + place / max(self.days, 1))
