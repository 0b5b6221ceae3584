"""What a seed stands for: how large the shops are, what moves and what goes wrong."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

Paging = Literal["offset", "keyset", "snapshot"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Rates are per shop and hour, nemeses per process and hour, faults per request."""

    seed: int
    hours: float
    shops: int
    workers: int
    orders: int
    products: int
    history_s: int
    page_size: int
    leaf_rows: int
    worth_splitting: int
    intervals_s: dict[str, float]
    parallel_shops: int
    parallel_slices: int
    paging: Paging
    lag_s: float
    changes: float
    move: float
    burst: int
    notices: float
    requests_limit: int
    answer_s: float
    refused: float
    broken: float
    silent: float
    slow: float
    lost_token: float
    repeated_token: float
    empty_page: float
    twice: float
    counts: Literal["right", "absent", "wrong"]
    stray_date: float
    kills: float
    stops: float
    terms: float
    jumps: float
    cut: float
    cut_at_commit: float
    restarts: float
    database_s: float
    turn_s: float

    def __str__(self) -> str:
        return str(msgspec.json.encode(asdict(self)).decode())


_DEFAULT_INTERVALS = {"orders": 60.0, "products": 300.0, "inventory": 900.0, "warehouses": 86_400.0}
_LONG_INTERVALS = {"orders": 3600.0, "products": 14_400.0, "inventory": 14_400.0, "warehouses": 86_400.0}
# Days of many shops that are read once an hour; the other runs are short and dense.
LONG_EVERY = 4
_HOURLY = ("changes", "kills", "stops", "terms", "jumps", "restarts")
# Of the nemeses, each seed has a random half.
_NEMESES: dict[str, tuple[float, ...]] = {
    "lag_s": (3.0, 40.0, 250.0),
    "changes": (5.0, 30.0, 120.0),
    "move": (0.1, 0.4),
    "notices": (0.3, 1.0),
    "refused": (0.02, 0.2),
    "broken": (0.02, 0.15),
    "silent": (0.005, 0.02),
    "slow": (0.05, 0.3),
    "lost_token": (0.05, 0.3),
    "repeated_token": (0.05, 0.2),
    "empty_page": (0.05, 0.2),
    "twice": (0.1, 0.3),
    "stray_date": (0.02,),
    "kills": (1.0, 6.0, 20.0),
    "stops": (1.0, 6.0, 15.0),
    "terms": (0.5, 2.0),
    "jumps": (1.0, 4.0),
    "cut": (0.0005, 0.005),
    "cut_at_commit": (0.005, 0.05),
    "restarts": (0.5, 3.0),
}


def draw(seed: int, **fixed: Any) -> Scenario:
    """The scenario of the seed, the same for ever; ``fixed`` replaces what a test aims at."""
    rng = random.Random(f"scenario {seed}")
    is_long = seed % LONG_EVERY == 0
    nemeses = {
        name: rng.choice(sizes) if rng.random() < 0.5 else 0.0 for name, sizes in sorted(_NEMESES.items())
    }
    if is_long:
        nemeses |= {name: nemeses[name] / 10 for name in _HOURLY}
    page_size = rng.choice((5, 10, 20, 50))
    drawn: dict[str, Any] = {
        "hours": 61.0 if is_long else rng.choice((0.5, 1.0, 2.0)),
        "shops": 30 if is_long else rng.choice((1, 2, 4, 6)),
        "workers": 2 if is_long else rng.choice((1, 2, 2, 3)),
        "orders": rng.choice((0, 20, 60)) if is_long else rng.choice((0, 20, 60, 150)),
        "products": rng.choice((0, 5)) if is_long else rng.choice((0, 5, 30)),
        "history_s": rng.choice((600, 86_400, 30 * 86_400)),
        "page_size": page_size,
        "leaf_rows": page_size * rng.choice((2, 4, 100)),
        "worth_splitting": page_size * rng.choice((2, 3, 100)),
        "intervals_s": dict(_LONG_INTERVALS) if is_long else _draw_intervals(rng),
        "parallel_shops": rng.choice((2, 4, 40)),
        "parallel_slices": rng.choice((1, 3, 16)),
        "paging": rng.choice(("offset", "offset", "keyset", "snapshot")),
        "burst": rng.choice((1, 1, 3, 12)),
        "requests_limit": rng.choice((50, 50, 50, 10)),
        "answer_s": rng.choice((0.05, 0.2, 0.6)),
        "counts": rng.choice(("right", "right", "right", "right", "absent", "wrong")),
        "database_s": rng.choice((0.0005, 0.0005, 0.003, 0.02)),
        "turn_s": rng.choice((1e-6, 1e-6, 1e-4)),
        **nemeses,
    }
    return Scenario(seed=seed, **(drawn | fixed))


def _draw_intervals(rng: random.Random) -> dict[str, float]:
    if rng.random() < 0.2:
        return dict(_DEFAULT_INTERVALS)
    orders = rng.choice((30.0, 120.0, 600.0, 1200.0))
    return {
        "orders": orders,
        "products": orders * rng.choice((1, 3)),
        "inventory": orders * rng.choice((1, 6)),
        "warehouses": orders * rng.choice((2, 24)),
    }
