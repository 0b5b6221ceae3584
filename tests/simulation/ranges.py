"""Multiranges of time, as Postgres has them."""

from __future__ import annotations

from datetime import datetime

Range = tuple[datetime, datetime]
Ranges = tuple[Range, ...]


def add(ranges: Ranges, since: datetime, until: datetime) -> Ranges:
    """The ranges and [since, until), with what touches joined."""
    if since >= until:
        return ranges
    before = tuple(r for r in ranges if r[1] < since)
    after = tuple(r for r in ranges if r[0] > until)
    touching = ranges[len(before) : len(ranges) - len(after)]
    if touching:
        since, until = min(since, touching[0][0]), max(until, touching[-1][1])
    return (*before, (since, until), *after)


def subtract(since: datetime, until: datetime, ranges: Ranges) -> list[Range]:
    """What of [since, until) lies in none of the ranges, oldest first."""
    gaps, reached = [], since
    for start, end in ranges:
        if end <= reached:
            continue
        if start >= until:
            break
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, end)
    if reached < until:
        gaps.append((reached, until))
    return gaps
