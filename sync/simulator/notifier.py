"""Sends notifications to the app, at least once and in no promised order, as the platform does."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import msgspec

from sync.simulator.notices import Notice
from sync.simulator.options import SimulatorOptions
from sync.simulator.webhooks import Webhooks
from sync.tiktok.signing import sign_notification

_RETRIES_S = (120.0, 1_800.0, 10_800.0, 43_200.0)
_MOST_IN_FLIGHT = 200
# Beyond this many that wait, for a retry or for a free connection, the next are dropped.
_MOST_WAITING = 50_000
_LATEST = 10_000
_UNNUMBERED = 3
_OUTCOMES = (
    "made", "unaddressed", "elsewhere", "lost", "duplicated", "sent", "retried", "delivered", "dropped",
)  # fmt: skip


@dataclass(slots=True)
class _Letter:
    number: int
    type: int
    address: str
    body: bytes
    signature: str
    made_at: float
    tries: int = 0


@dataclass(slots=True)
class Counts:
    """What became of the notifications, by topic; the latest delays from making to delivery, in seconds.

    Once none is under way: made - unaddressed - elsewhere - lost + duplicated = delivered + dropped.
    """

    by_outcome: dict[str, Counter[int]] = field(
        default_factory=lambda: {name: Counter() for name in _OUTCOMES}
    )
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    answers_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))

    def count(self, outcome: str, kind: int) -> None:
        """One more notification of this topic came to this outcome."""
        self.by_outcome[outcome][kind] += 1

    def summary(self) -> dict[str, object]:
        """The counts as the statistics endpoint shows them."""
        kinds = sorted(self.by_outcome["made"])
        return {name: found.total() for name, found in self.by_outcome.items()} | {
            "by_type": {
                str(kind): {name: found[kind] for name, found in self.by_outcome.items() if found[kind]}
                for kind in kinds
            },
            "delay_ms": _spread(self.delays_s),
            "answer_ms": _spread(self.answers_s),
        }


def _spread(seconds: deque[float]) -> dict[str, float] | None:
    ranked = sorted(seconds)
    if not ranked:
        return None
    last = len(ranked) - 1
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ranked[int(last * share)] * 1000, 2) for name, share in shares.items()}


class Notifier:
    """Makes, signs and delivers notifications; those of a shop that nobody may hear of are only counted.

    ``is_heard`` tells whether the app may hear of a shop. Chance, where the options leave something to
    it, depends on the seed and on the order in which things are told.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        options: Callable[[], SimulatorOptions],
        now: Callable[[], float],
        is_heard: Callable[[str], bool],
    ) -> None:
        self._webhooks = webhooks
        self._options = options
        self._now = now
        self._is_heard = is_heard
        self._rng = random.Random(f"notifications {options().seed}")
        self.counts = Counts()
        # Ids go on from the time of the start, so that those of a restarted simulator are new.
        self._last_id = int(time.time() * 1000) << 20
        self._letters = 0
        self._session: aiohttp.ClientSession | None = None
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._ready: deque[_Letter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, shop_id: str, *notices: Notice) -> None:
        """The notices are under way if the shop's seller lets the app hear of it and it has an address."""
        for notice in notices:
            if self._is_heard(shop_id):
                self.send(shop_id, notice)
            else:
                self.counts.count("made", notice.type)
                self.counts.count("unaddressed", notice.type)

    def send(self, shop_id: str, notice: Notice, *, timestamp: int | None = None) -> str:
        """The notice is under way, whoever may hear it; returns the notification's id."""
        options, kind = self._options(), notice.type
        self._last_id += 1 + self._rng.randrange(900)
        is_lost = self._rng.random() < options.notify_loss
        copies = 1 + (self._rng.random() < options.notify_duplicates)
        self.counts.count("made", kind)
        address = self._webhooks.address_of(shop_id, kind) or options.notify_url
        if not address:
            self.counts.count("unaddressed", kind)
        elif not _is_loopback(address):
            self.counts.count("elsewhere", kind)
        elif is_lost:
            self.counts.count("lost", kind)
        else:
            body = self._encode(shop_id, notice, timestamp=timestamp)
            self.counts.by_outcome["duplicated"][kind] += copies - 1
            for _ in range(copies):
                self._post(kind, address, body=body)
        return str(self._last_id)

    def _encode(self, shop_id: str, notice: Notice, *, timestamp: int | None) -> bytes:
        envelope: dict[str, object] = {
            "type": notice.type,
            "tts_notification_id": str(self._last_id),
            "shop_id": shop_id,
            "timestamp": int(self._now()) if timestamp is None else timestamp,
            "data": notice.data,
        }
        if notice.type == _UNNUMBERED:
            # As documented: this one topic has no id.
            del envelope["tts_notification_id"]
        return msgspec.json.encode(envelope)

    def _post(self, kind: int, address: str, *, body: bytes) -> None:
        options = self._options()
        self._letters += 1
        signature = sign_notification(body, app_key=options.app_key, app_secret=options.app_secret)
        made_at = asyncio.get_running_loop().time()
        letter = _Letter(self._letters, kind, address, body, signature, made_at)
        disorder_s = options.notify_disorder_s
        self._plan(letter, delay_s=disorder_s * self._rng.random() if disorder_s > 0 else 0.0)

    def _plan(self, letter: _Letter, *, delay_s: float) -> None:
        if len(self._timers) + len(self._ready) >= _MOST_WAITING:
            self.counts.count("dropped", letter.type)
        elif delay_s > 0:
            loop = asyncio.get_running_loop()
            self._timers[letter.number] = loop.call_later(delay_s, self._launch, letter)
        else:
            self._launch(letter)

    def _launch(self, letter: _Letter) -> None:
        self._timers.pop(letter.number, None)
        if len(self._tasks) >= _MOST_IN_FLIGHT:
            self._ready.append(letter)
            return
        task = asyncio.create_task(self._deliver(letter))
        self._tasks.add(task)
        task.add_done_callback(self._land)

    def _land(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._ready and not task.cancelled():
            self._launch(self._ready.popleft())

    async def _deliver(self, letter: _Letter) -> None:
        letter.tries += 1
        self.counts.count("sent", letter.type)
        if letter.tries > 1:
            self.counts.count("retried", letter.type)
        clock = asyncio.get_running_loop().time
        started = clock()
        if await self._is_taken(letter):
            self.counts.count("delivered", letter.type)
            self.counts.answers_s.append(clock() - started)
            self.counts.delays_s.append(clock() - letter.made_at)
        elif letter.tries > len(_RETRIES_S):
            self.counts.count("dropped", letter.type)
        else:
            pause_s = _RETRIES_S[letter.tries - 1] * self._options().notify_retry_scale
            self._plan(letter, delay_s=pause_s)

    async def _is_taken(self, letter: _Letter) -> bool:
        headers = {"Authorization": letter.signature, "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=self._options().notify_timeout_s)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MOST_IN_FLIGHT), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._session.post(
                letter.address, data=letter.body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            # ValueError: an address that an app may set but nothing can be sent to.
            return False

    def summary(self) -> dict[str, object]:
        """What became of all notifications, and how many are on their way."""
        waiting = len(self._timers) + len(self._ready)
        return self.counts.summary() | {"in_flight": len(self._tasks), "waiting": waiting}

    async def close(self) -> None:
        """Nothing is sent any more; what was on its way is lost."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ready.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None


def _is_loopback(address: str) -> bool:
    # The simulator speaks to this machine only, whatever address an app sets.
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
