"""What the status page says: plain words for the state of every shop. Pure: rows in, words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import groupby

from sync.log import redact
from sync.store.status import StreamStatus

Counts = Mapping[tuple[str, str], int]

# More would make a page that no one reads and that is heavy to draw every ten seconds.
_MOST_CARDS = 100
_LONGEST_TEXT = 400
# Failures in a row after which waiting alone is not likely to help.
_MANY_FAILURES = 5
_LATE_GRACE_S = 120.0
_CONNECT = "shopsync shops connect"


class Level(IntEnum):
    """How much a thing asks for: the worst of its parts decides for the whole."""

    OFF = 0
    FINE = 1
    BUSY = 2
    LOOK = 3
    ACT = 4

    @property
    def css(self) -> str:
        return self.name.lower()


_LABELS = {
    Level.OFF: "paused",
    Level.FINE: "up to date",
    Level.BUSY: "first sync",
    Level.LOOK: "worth a look",
    Level.ACT: "needs you",
}


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell about a shop or a stream; ``command`` is what to type about it.

    ``app`` is set where a new consent for that app helps.
    """

    level: Level
    title: str
    text: str = ""
    command: str = ""
    app: str = ""


@dataclass(frozen=True, slots=True)
class StreamLine:
    """One stream of a shop. ``late_after_s`` is the lag from which on it counts as late."""

    name: str
    level: Level
    label: str
    synced_until: datetime | None
    lag_s: float | None
    late_after_s: float
    due_in_s: float
    rows: int | None


@dataclass(frozen=True, slots=True)
class ShopCard:
    """One shop with its streams and what is to be told of it."""

    shop_id: str
    name: str
    region: str
    level: Level
    label: str
    is_syncing: bool
    requests_per_second: float
    streams: tuple[StreamLine, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class StatusPage:
    """The whole page, the shops that need somebody first. ``left_out`` counts cards not shown."""

    level: Level
    headline: str
    is_ready: bool
    trouble: str
    cards: tuple[ShopCard, ...]
    left_out: int
    rows: int | None
    requests_per_second: float
    age_s: float
    now: datetime


def describe(
    statuses: Sequence[StreamStatus],
    *,
    intervals_s: Mapping[str, int],
    counts: Counts | None,
    running: frozenset[str],
    is_ready: bool,
    age_s: float,
    now: datetime,
    trouble: str = "",
) -> StatusPage:
    """The page for these rows, which were read ``age_s`` ago and stand grouped by shop."""
    cards = [
        _describe_shop(
            [_describe_stream(row, intervals_s[row.stream], counts, age_s, now) for row in rows],
            rows,
            is_syncing=shop_id in running or any(row.synced_by for row in rows),
        )
        for shop_id, rows in ((key, list(group)) for key, group in groupby(statuses, lambda row: row.shop_id))
    ]
    cards.sort(key=lambda card: -card.level)
    level = max((card.level for card in cards), default=Level.BUSY)
    if trouble:
        level = Level.ACT
    return StatusPage(
        level=level if is_ready else max(level, Level.BUSY),
        headline=_headline(cards),
        is_ready=is_ready,
        trouble=trouble,
        cards=tuple(cards[:_MOST_CARDS]),
        left_out=max(0, len(cards) - _MOST_CARDS),
        rows=None if counts is None else sum(counts.values()),
        requests_per_second=sum(card.requests_per_second for card in cards),
        age_s=age_s,
        now=now,
    )


def _headline(cards: Sequence[ShopCard]) -> str:
    awake = [card for card in cards if card.level is not Level.OFF]
    if not cards:
        return "No shop is connected yet"
    if not awake:
        return "Every shop is paused" if len(cards) > 1 else "The shop is paused"
    level = max(card.level for card in awake)
    count = sum(card.level == level for card in awake)
    if level is Level.FINE:
        everyone = {1: "The shop is", 2: "Both shops are"}.get(count, f"All {count} shops are")
        return f"{everyone} up to date"
    one, many = {
        Level.ACT: ("needs you", "need you"),
        Level.LOOK: ("is worth a look", "are worth a look"),
        Level.BUSY: ("is being read for the first time", "are being read for the first time"),
    }[level]
    subject = f"{count} of {len(awake)} shops" if len(awake) > 1 else "The shop"
    return f"{subject} {one if count == 1 else many}"


def _describe_shop(
    lines: Sequence[StreamLine], rows: Sequence[StreamStatus], *, is_syncing: bool
) -> ShopCard:
    first = rows[0]
    shop_note = _shop_note(first)
    # What is wrong with the whole shop is also written at each of its streams: said once.
    notes = [shop_note] if shop_note else [note for row in rows for note in _stream_notes(row)]
    level = shop_note.level if shop_note else max(line.level for line in lines)
    return ShopCard(
        shop_id=first.shop_id,
        name=first.name or first.shop_id,
        region=first.region,
        level=level,
        label=_LABELS[level],
        is_syncing=is_syncing,
        requests_per_second=first.requests_per_second,
        streams=tuple(lines),
        notes=tuple(notes),
    )


def _shop_note(row: StreamStatus) -> Note | None:
    reason = _short(row.state_reason)
    if row.state == "needs_reauth":
        return Note(
            Level.ACT,
            "The seller must consent again; until then nothing of this shop is read",
            reason,
            "" if _CONNECT in reason else f"{_CONNECT}{f' --app {row.app}' if row.app else ''}",
            app=row.app,
        )
    if row.state == "inactive":
        return Note(
            Level.ACT,
            "TikTok Shop says that this shop is not active; it is asked again once a day",
            reason or "Look into Seller Center, or let go of the shop.",
            f"shopsync shops disconnect {row.shop_id}",
        )
    if row.state == "paused":
        return Note(Level.OFF, "Paused by a person", reason, f"shopsync shops resume {row.shop_id}")
    return None


def _stream_notes(row: StreamStatus) -> list[Note]:
    notes = []
    if row.parked_reason:
        notes.append(
            Note(Level.ACT, f"{row.stream}: parked, tried again every hour", _short(row.parked_reason))
        )
    elif row.failures:
        times = "once" if row.failures == 1 else f"{row.failures} times in a row"
        level = Level.ACT if row.failures >= _MANY_FAILURES else Level.LOOK
        notes.append(
            Note(level, f"{row.stream}: failed {times}, tried again by itself", _short(row.last_error))
        )
    if row.rejects:
        records = "1 record was" if row.rejects == 1 else f"{row.rejects:,} records were"
        notes.append(
            Note(
                Level.LOOK,
                f"{row.stream}: {records} not storable; see sync.rejects",
                "Everything around them is stored. A later good version takes its place by itself.",
            )
        )
    if row.findings:
        differences = "1 difference" if row.findings == 1 else f"{row.findings:,} differences"
        notes.append(
            Note(
                Level.LOOK,
                f"{row.stream}: {differences} from TikTok Shop's own counts; see sync.findings",
                "What TikTok Shop shows is repaired by the next comparison.",
                f"shopsync verify --repair --shop {row.shop_id} --stream {row.stream}",
            )
        )
    return notes


def _describe_stream(
    row: StreamStatus, interval_s: int, counts: Counts | None, age_s: float, now: datetime
) -> StreamLine:
    late_after_s = 2 * interval_s + _LATE_GRACE_S
    lag_s = None if row.lag_s is None else max(0.0, row.lag_s + age_s)
    level, label = _judge_stream(row, lag_s, late_after_s)
    return StreamLine(
        name=row.stream,
        level=level,
        label=label,
        synced_until=row.synced_until,
        lag_s=lag_s,
        late_after_s=late_after_s,
        due_in_s=(row.due_at - now) / timedelta(seconds=1),
        rows=None if counts is None else counts.get((row.shop_id, row.stream), 0),
    )


def _judge_stream(row: StreamStatus, lag_s: float | None, late_after_s: float) -> tuple[Level, str]:
    if row.state != "active":
        level = Level.OFF if row.state == "paused" else Level.ACT
        return level, "waiting" if row.state == "needs_reauth" else row.state
    if row.parked_reason:
        return Level.ACT, "parked"
    if row.failures:
        return (Level.ACT if row.failures >= _MANY_FAILURES else Level.LOOK), "retrying"
    if row.succeeded_at is None:
        return Level.BUSY, "first sync"
    if lag_s is None or lag_s > late_after_s:
        return Level.LOOK, "late"
    if row.rejects:
        return Level.LOOK, f"{row.rejects:,} set aside"
    if row.findings:
        return Level.LOOK, "differs"
    return Level.FINE, "up to date"


def tell_duration(seconds: float) -> str:
    """A length of time as people say it: the largest unit, and the next one where it still matters."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(seconds // 3600, 24)
    return f"{days} d {hours} h" if hours and days < 7 else f"{days} d"


def _short(text: str | None) -> str:
    # Errors are free of secrets where they are made; this is the last door before the public.
    clean = redact(text or "")
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 1] + "…"
