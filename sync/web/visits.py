"""Sellers who are here with TikTok Shop's answer: kept in memory, for as long as a code is good."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from sync.engine.onboarding import Attempt, Connected

LIFE_S = 1800
_MOST = 500
_END_S = 4.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What TikTok Shop's redirect carried."""

    code: str = field(repr=False)
    state: str = field(repr=False)
    app_key: str


@dataclass(slots=True)
class Visit:
    """One answer and what became of it: ``connected``, or the name of a problem, or still under way.

    ``form`` is the token that the page's form must bring along; it works once.
    """

    answer: Answer
    attempts: list[Attempt] | None = None
    connected: Connected | None = None
    problem: str = ""
    work: asyncio.Task[None] | None = None
    form: str = field(default_factory=secrets.token_urlsafe, repr=False)
    ends_at: float = field(default_factory=lambda: time.monotonic() + LIFE_S)

    def use_form(self, given: str) -> bool:
        """True for the first who brings the form's token."""
        is_right = hmac.compare_digest(given.encode("utf-8", "replace"), self.form.encode())
        if is_right:
            self.form = secrets.token_urlsafe()
        return is_right


class Visits:
    """Finds a visit by the token in the visitor's cookie. The oldest go when there are too many."""

    def __init__(self) -> None:
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def open(self, visit: Visit) -> str:
        """The token under which the visit is found, for half an hour."""
        token = secrets.token_urlsafe()
        self._visits[token] = visit
        while len(self._visits) > _MOST or next(iter(self._visits.values())).ends_at < time.monotonic():
            self._visits.popitem(last=False)
        return token

    def find(self, token: str) -> Visit | None:
        """The visit, or None when it is over or never was."""
        visit = self._visits.get(token)
        return visit if visit is not None and visit.ends_at >= time.monotonic() else None

    async def close(self) -> None:
        """Nothing is under way any more."""
        works = [visit.work for visit in self._visits.values() if visit.work is not None]
        if works:
            # A code that is spent is lost with its tokens: what is on its way gets a moment.
            await asyncio.wait(works, timeout=_END_S)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)


class Allowance:
    """So many at once, so many a second after that; who asks for more is told no."""

    def __init__(self, burst: float, *, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left = burst
        self._at = clock()

    def take(self) -> bool:
        """True when one more is allowed now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
