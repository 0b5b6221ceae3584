"""Metrics of the whole installation, as against those of this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from sync import metrics
from sync.errors import ShopState
from sync.store.status import StreamStatus


def set_gauges(statuses: Sequence[StreamStatus]) -> None:
    """The gauges that only Postgres knows say what these rows say, and nothing of shops that are gone."""
    states = Counter({row.shop_id: row.state for row in statuses}.values())
    for state in get_args(ShopState):
        # The rows leave disconnected shops out, so nothing is known of their number.
        if state != "disconnected":
            metrics.SHOPS.labels(state).set(states[state])
    metrics.SYNCED_UNTIL.clear()
    for row in statuses:
        if row.synced_until is not None:
            metrics.SYNCED_UNTIL.labels(row.shop_id, row.stream).set(row.synced_until.timestamp())
