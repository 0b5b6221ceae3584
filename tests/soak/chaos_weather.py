"""What a seed of the kill harness stands for: shops, how TikTok behaves, and how much happens."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sync.simulator.options import SimulatorOptions


@dataclass(frozen=True, slots=True)
class Weather:
    """What a seed stands for besides the moments of the strikes."""

    seed: int
    orders: int
    mutations: float
    pace: int
    options: SimulatorOptions
    reread_s: int
    pause_s: float

    @property
    def world(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "shops": 3,
            "orders_per_shop": self.orders,
            "products_per_shop": 40,
            "history_days": 60,
            "flash_sale_orders": 200,
        }


def draw(seed: int, *, pause_s: float) -> Weather:
    """The weather of the seed."""
    rng = random.Random(f"weather {seed}")
    options = SimulatorOptions(
        seed=seed,
        latency_s=rng.choice((0.0, 0.02, 0.05)),
        jitter_s=rng.choice((0.0, 0.05)),
        visibility_lag_s=rng.choice((0.0, 0.0, 1.0, 2.5)),
        paging=rng.choice(("offset", "keyset", "snapshot")),
        access_token_life_s=rng.choice((20, 40)),
        refresh_latency_s=rng.choice((0.0, 0.1)),
        old_access_dies=rng.random() < 0.5,
        notify_loss=0.2,
        notify_duplicates=0.2,
        notify_disorder_s=1.0,
        notify_retry_scale=0.01,
    )
    return Weather(
        seed=seed,
        orders=rng.choice((300, 1500, 4000)),
        mutations=rng.choice((10.0, 25.0, 50.0)),
        pace=rng.choice((20, 50, 50)),
        options=options,
        reread_s=rng.choice((0, 0, 30)),
        pause_s=pause_s,
    )
