"""What a seed stands for: a shop, how TikTok pages it, how it moves, and what goes wrong meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

Paging = Literal["offset", "keyset", "snapshot"]
FaultRule = dict[str, Any]

# Seconds of the world's own clock. No change shows later than this, so no lag may be longer.
LOOKBACK_S = 20
_ORDERS, _PRODUCTS = "/orders/search", "/products/search"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Sizes are small so that few rows make many pages, cuts and shared walks.

    ``crowd``, ``rush`` and ``fresh`` are the shares of the orders that were all updated in one
    second, in one minute, and within the last moments. ``move`` is how likely a request meets a
    change, ``burst`` how many at once at the most, ``reach`` how many pages from the place that is
    being read, ``tick_s`` how much time a request takes at the most. ``kill_after`` cancels the
    first round after so many requests. With ``holds_counts`` a walk is told the count of its first
    page to its end, whatever leaves meanwhile; with ``balances`` a new order shows late in the window
    for each that leaves it.
    """

    seed: int
    orders: int
    products: int
    days: int
    crowd: float
    rush: float
    fresh: float
    paging: Paging
    lag_s: float
    page_size: int
    leaf_rows: int
    worth_splitting: int
    parallel: int
    interval_s: int
    move: float
    burst: int
    tick_s: float
    reach: int
    rounds: int
    kill_after: int | None
    faults: tuple[FaultRule, ...]
    holds_counts: bool
    balances: bool

    def __str__(self) -> str:
        return str(msgspec.json.encode(asdict(self)).decode())


def draw(seed: int, **fixed: Any) -> Scenario:
    """The scenario of the seed, the same for ever; ``fixed`` replaces what a test aims at."""
    rng = random.Random(f"scenario {seed}")
    page_size = rng.choice((3, 4, 5, 8, 10))
    is_large = rng.random() < 0.02
    drawn: dict[str, Any] = {
        "orders": rng.randint(700, 900) if is_large else rng.randint(0, 14) * page_size + rng.randint(1, 30),
        "products": rng.choice((8, 12, 30)),
        "days": rng.choice((1, 30, 400)),
        "crowd": rng.choice((0.0, 0.0, 0.2, 0.5, 0.8)),
        "rush": rng.choice((0.0, 0.3, 0.6)),
        "fresh": rng.choice((0.0, 0.1, 0.4)),
        "paging": rng.choice(("offset", "offset", "keyset", "snapshot")),
        "lag_s": rng.choice((0.0, 0.0, 3.0, 12.0, LOOKBACK_S - 1.0)),
        "page_size": 50 if is_large else page_size,
        "leaf_rows": page_size * (40 if is_large else rng.choice((2, 5, 9))),
        "worth_splitting": page_size * (10 if is_large else rng.choice((2, 3, 100))),
        "parallel": rng.choice((1, 3, 8)),
        "interval_s": rng.choice((20, 60, 200)),
        "move": rng.choice((0.1, 0.3, 0.6)),
        "burst": rng.choice((1, 1, 3, 12)),
        "tick_s": rng.choice((0.05, 0.5, 2.0)),
        "reach": rng.choice((2, 2, 15)),
        "rounds": rng.choice((1, 1, 2)),
        "kill_after": rng.choice((None, None, None, 3, 12)),
        "faults": rng.choice(_TROUBLES)(rng),
        "holds_counts": False,
        "balances": False,
    }
    return Scenario(seed=seed, **(drawn | fixed))


def _none(rng: random.Random) -> tuple[FaultRule, ...]:
    return ()


def _no_counts(rng: random.Random) -> tuple[FaultRule, ...]:
    return ({"fault": "total_count_absent", "every": rng.choice((1, 1, 3))},)


def _wrong_counts(rng: random.Random) -> tuple[FaultRule, ...]:
    # Always off by the same, or now and then by much: a count that lies at will can pass for any truth.
    if rng.random() < 0.6:
        return ({"fault": "total_count_wrong", "delta": rng.choice((-3, -1, 1, 7)), "path": _search(rng)},)
    return ({"fault": "total_count_wrong", "delta": 1000, "probability": 0.3, "times": 30},)


def _bad_tokens(rng: random.Random) -> tuple[FaultRule, ...]:
    kinds = ("repeated_token", "lost_page_token", "empty_page_with_token")
    return tuple(
        {"fault": kind, "probability": 0.4, "times": rng.randint(1, 12), "path": _search(rng)}
        for kind in rng.sample(kinds, rng.randint(1, 2))
    )


def _bad_rows(rng: random.Random) -> tuple[FaultRule, ...]:
    rules: tuple[FaultRule, ...] = (
        {"fault": "duplicate_rows", "count": rng.choice((1, 3)), "every": rng.randint(1, 3)},
        {"fault": "hidden_row", "times": rng.randint(1, 3), "probability": 0.3, "path": _search(rng)},
    )
    return rules[: rng.randint(1, 2)]


def _bad_answers(rng: random.Random) -> tuple[FaultRule, ...]:
    kinds: tuple[FaultRule, ...] = (
        {"fault": "rate_limited", "retry_after": 0},
        {"fault": "reset_mid_body"},
        {"fault": "truncated_body"},
        {"fault": "internal_error"},
        {"fault": "null_list", "times": 2},
        {"fault": "page_size_ignored", "size": rng.choice((2, 7))},
    )
    return tuple(
        {"probability": 0.2, "times": rng.randint(2, 6), **rule}
        for rule in rng.sample(kinds, rng.randint(1, 3))
    )


def _late_answers(rng: random.Random) -> tuple[FaultRule, ...]:
    return ({"fault": "slow", "seconds": 0.02, "probability": 0.3, "times": 10, "path": "/search"},)


def _search(rng: random.Random) -> str:
    return rng.choice((_ORDERS, _PRODUCTS, "/search"))


_TROUBLES: tuple[Callable[[random.Random], tuple[FaultRule, ...]], ...] = (
    _none,
    _none,
    _no_counts,
    _wrong_counts,
    _bad_tokens,
    _bad_rows,
    _bad_answers,
    _late_answers,
)
