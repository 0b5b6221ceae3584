"""Checks of what the sync itself has noted: is somebody at work, what is late, what failed."""

from __future__ import annotations

from collections.abc import Sequence

from sync.engine.findings import Finding, ScopeCheck
from sync.settings import Intervals
from sync.store.shops import ShopRow
from sync.store.status import StreamStatus
from sync.streams.base import Stream
from sync.streams.registry import STREAMS

_AREA = "sync"
_LATE_ROUNDS = 3
_LATE_S = 600.0
# Shops whose faults are listed one by one.
_MOST_LISTED = 20


def check_sync(rows: Sequence[StreamStatus], *, intervals: Intervals, at_work: int) -> list[Finding]:
    """Who is at work, and which streams need somebody to look at them."""
    active = [row for row in rows if row.state == "active"]
    if not active:
        return []
    faults = [finding for row in active if (finding := _check_stream(row, intervals))]
    faults += _find_unread(active)
    findings = [_check_daemon(active, at_work), *faults[:_MOST_LISTED]]
    if len(faults) > _MOST_LISTED:
        what = f"{len(faults) - _MOST_LISTED} more streams are not well"
        findings.append(Finding(_AREA, "warning", what, "`shopsync status` lists them all"))
    elif not faults:
        lags = [row.lag_s for row in active if row.stream == "orders" and row.lag_s is not None]
        lag = f", orders are at most {max(lags):.0f} s behind" if lags else ""
        findings.append(Finding(_AREA, "ok", f"all {len(active)} streams are well{lag}"))
    return findings


def _check_daemon(rows: Sequence[StreamStatus], at_work: int) -> Finding:
    if at_work:
        noun = "process is" if at_work == 1 else "processes are"
        return Finding(_AREA, "ok", f"{at_work} shopsync {noun} at work")
    last = max((row.succeeded_at for row in rows if row.succeeded_at), default=None)
    since = f"since {last:%Y-%m-%d %H:%M} UTC" if last else "yet"
    todo = "start `shopsync run`, or have cron start `shopsync run --once`"
    return Finding(_AREA, "warning", f"no shopsync process is at work, and nothing was read {since}", todo)


def _check_stream(row: StreamStatus, intervals: Intervals) -> Finding | None:
    where = f"{row.name or row.shop_id} {row.stream}"
    if row.parked_reason:
        return Finding(_AREA, "warning", f"{where} waits: {row.parked_reason}")
    if row.failures and row.last_error:
        return Finding(_AREA, "warning", f"{where} failed {row.failures} times: {row.last_error}")
    if row.rejects:
        what = f"{where}: {row.rejects:,} records could not be stored"
        return Finding(_AREA, "warning", what, "SELECT * FROM sync.rejects says why")
    late_s = _LATE_ROUNDS * intervals.of(row.stream) + _LATE_S
    if row.lag_s is not None and row.lag_s > late_s:
        todo = "see `shopsync status`: a backfill may be using the shop's pace"
        return Finding(_AREA, "warning", f"{where} is {row.lag_s / 60:.0f} min behind", todo)
    return None


def _find_unread(rows: Sequence[StreamStatus]) -> list[Finding]:
    """One finding for each shop of which something was never read."""
    unread: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.succeeded_at is None and not row.parked_reason and not row.failures:
            unread.setdefault((row.shop_id, row.name), []).append(row.stream)
    return [
        Finding(
            _AREA,
            "warning",
            f"{name or shop_id}: never read: {', '.join(streams)}",
            "run `shopsync backfill`",
        )
        for (shop_id, name), streams in unread.items()
    ]


def check_scopes(rows: Sequence[ShopRow]) -> tuple[list[Finding], list[ScopeCheck]]:
    """For each shop and stream whether its scope was granted, and a finding for each that was not."""
    table: list[ScopeCheck] = []
    findings: list[Finding] = []
    for row in rows:
        checks = [_check_scope(row, stream) for stream in STREAMS.values()]
        table += checks
        missing = [check for check in checks if check.granted is False]
        for scope in dict.fromkeys(check.scope for check in missing):
            streams = " and ".join(check.stream for check in missing if check.scope == scope)
            todo = (
                "switch it on in Partner Center > Manage API, then let the seller consent again: "
                f"shopsync shops connect --app {row.shop.app}"
            )
            what = f"{row.shop.name or row.shop.shop_id}: {scope} is not granted, so {streams} cannot be read"
            findings.append(Finding("scopes", "warning", what, todo))
    if table and not findings:
        findings.append(Finding("scopes", "ok", "every shop has granted what its streams need"))
    return findings, table


def _check_scope(row: ShopRow, stream: Stream) -> ScopeCheck:
    granted = row.shop.granted_scopes
    return ScopeCheck(
        shop_id=row.shop.shop_id,
        name=row.shop.name,
        stream=stream.name,
        scope=stream.scope,
        granted=stream.scope in granted if granted else None,
    )
