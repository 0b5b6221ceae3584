"""Every Prometheus metric, named once. Labels stay within shops × streams."""

from __future__ import annotations

import asyncio

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# A second line for each counter that nobody asked for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there
REGISTRY = CollectorRegistry()

REQUESTS = Counter(
    "shopsync_requests",
    "Requests sent to TikTok Shop, by outcome.",
    ["shop_id", "outcome"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "shopsync_request_seconds",
    "Seconds from sending a request to its last byte.",
    buckets=(0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
RECORDS = Counter(
    "shopsync_records",
    "Records by stream and what became of them (inserted, updated, stale, unchanged, rejected).",
    ["stream", "outcome"],
    registry=REGISTRY,
)
SLICES = Counter(
    "shopsync_slices", "Slices closed, by stream and verdict.", ["stream", "verdict"], registry=REGISTRY
)
RUNS = Counter("shopsync_runs", "Shop syncs ended, by outcome.", ["outcome"], registry=REGISTRY)
NOTIFICATIONS = Counter(
    "shopsync_notifications",
    "Notifications of TikTok Shop that came in, by type and what became of them.",
    ["type", "outcome"],
    registry=REGISTRY,
)
REFRESHES = Counter(
    "shopsync_token_refreshes", "Token refreshes, by outcome.", ["outcome"], registry=REGISTRY
)
SYNCED_UNTIL = Gauge(
    "shopsync_synced_until_seconds",
    "Unix time until which a shop's stream is stored.",
    ["shop_id", "stream"],
    registry=REGISTRY,
)
SHOPS = Gauge("shopsync_shops", "Connected shops by state.", ["state"], registry=REGISTRY)
LEASES = Gauge("shopsync_leases_held", "Shops that this process is syncing now.", registry=REGISTRY)
PACE = Gauge(
    "shopsync_pace_requests_per_second",
    "What the pacer of a shop allows now.",
    ["shop_id"],
    registry=REGISTRY,
)
TASKS = Gauge("shopsync_tasks", "Tasks of the event loop at the scrape.", registry=REGISTRY)


def render() -> bytes:
    """The metrics in Prometheus' text format. Called in the event loop."""
    TASKS.set(len(asyncio.all_tasks()))
    return generate_latest(REGISTRY)
