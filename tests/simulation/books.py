"""What the statements of leases, cursors, hints, runs and shops do, in memory.

Each method has the name, the parameters and the answer of the statement in sql/queries that it stands for;
tests/integration/test_simulated_statements.py plays both side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.simulation.postgres import Server, Transaction
from tests.simulation.ranges import subtract
from tests.simulation.rows import LEAST, CursorRow, HintRow, LeaseRow, Row, note_success

_ALL_BUT_DUE_S = 2.0
_ACTIVE = ("active", "inactive")


@dataclass(slots=True)
class Books:
    """The schema sync."""

    shops: dict[str, Row] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    cursors: dict[tuple[str, str], CursorRow] = field(default_factory=dict)
    hints: dict[tuple[str, str, str], HintRow] = field(default_factory=dict)
    notifications: set[str] = field(default_factory=set)
    runs: int = 0
    slices: int = 0

    def _is_free(self, lease: LeaseRow, owner: Any, now: float) -> bool:
        return lease.expires_at < now or lease.owner == owner or lease.session.is_lost

    def holds(self, shop_id: str, owner: Any, epoch: int | None, now: float) -> bool:
        """True while the lease is the owner's, in that epoch, and has not run out."""
        lease = self.leases.get(shop_id)
        return lease is not None and (lease.owner, lease.epoch) == (owner, epoch) and lease.expires_at > now

    def is_owner(self, shop_id: str, owner: Any, epoch: int | None) -> bool:
        lease = self.leases.get(shop_id)
        return owner is None or (lease is not None and (lease.owner, lease.epoch) == (owner, epoch))

    # leases.sql

    def acquire_leases(
        self, server: Server, t: Transaction, shop_ids: Sequence[str], owner: Any, _holder: str, life_s: float
    ) -> list[Row]:
        now, rows = server.world.now, []
        for shop_id in shop_ids:
            lease = self.leases.get(shop_id)
            if lease is not None and not self._is_free(lease, owner, now):
                continue
            if server.is_locked(("lease", shop_id)):
                rows.append(Row(shop_id=shop_id, epoch=None, taken_over=None, learned_rate=None))
                continue
            rate = None if lease is None else lease.learned_rate
            epoch = 1 if lease is None else lease.epoch + 1
            taken = LeaseRow(owner, epoch, now + life_s, t.session, now, rate)
            is_over = None if lease is None else lease.owner != owner
            if lease is not None:
                taken.wanted_at = lease.wanted_at
            t.writes.append(lambda shop_id=shop_id, taken=taken: self.leases.__setitem__(shop_id, taken))  # type: ignore[misc]
            rows.append(Row(shop_id=shop_id, epoch=epoch, taken_over=is_over, learned_rate=rate))
        return rows

    def renew_leases(
        self, server: Server, _t: Transaction, owner: Any, shop_ids: Sequence[str], life_s: float
    ) -> list[Row]:
        now, rows = server.world.now, []
        for shop_id in shop_ids:
            lease = self.leases.get(shop_id)
            if lease is not None and lease.owner == owner and lease.expires_at > now:
                lease.expires_at = now + life_s
                rows.append(Row(shop_id=shop_id))
        return rows

    def release_leases(
        self,
        _server: Server,
        _t: Transaction,
        owner: Any,
        shop_ids: Sequence[str],
        epochs: Sequence[int],
        rates: Sequence[float | None],
    ) -> list[Row]:
        for shop_id, epoch, rate in zip(shop_ids, epochs, rates, strict=True):
            lease = self.leases.get(shop_id)
            if lease is not None and (lease.owner, lease.epoch) == (owner, epoch):
                lease.expires_at, lease.learned_rate = LEAST, rate
        return []

    def hold_lease(self, server: Server, t: Transaction, shop_id: str, owner: Any, epoch: int) -> list[Row]:
        if not self.holds(shop_id, owner, epoch, server.world.now):
            return []
        server.lock(t, ("lease", shop_id), shared=True)
        t.claims.append((shop_id, owner, epoch))
        return [Row(held=1)]

    def hold_leases(
        self,
        server: Server,
        t: Transaction,
        shop_ids: Sequence[str],
        owners: Sequence[Any],
        epochs: Sequence[int],
        streams: Sequence[str],
    ) -> list[Row]:
        rows = []
        for shop_id, owner, epoch, stream in zip(shop_ids, owners, epochs, streams, strict=True):
            if (shop_id, stream) in self.cursors and self.holds(shop_id, owner, epoch, server.world.now):
                if not server.lock(t, ("cursor", shop_id, stream), skips=True):
                    continue
                server.lock(t, ("lease", shop_id), shared=True)
                t.claims.append((shop_id, owner, epoch))
                rows.append(Row(shop_id=shop_id, owner=owner, epoch=epoch, stream=stream))
        return rows

    # cursors.sql

    def gaps(self, server: Server, t: Transaction, *asked: Sequence[Any]) -> list[Row]:
        return self._subtract("settled", asked)

    def uncovered(self, server: Server, t: Transaction, *asked: Sequence[Any]) -> list[Row]:
        return self._subtract("covered", asked)

    def _subtract(self, name: str, asked: Sequence[Sequence[Any]]) -> list[Row]:
        rows = []
        for place, (shop_id, stream, since, until) in enumerate(zip(*asked, strict=True), start=1):
            cursor = self.cursors.get((shop_id, stream))
            ranges = () if cursor is None else getattr(cursor, name)
            rows += [Row(place=place, since=a, until=b) for a, b in subtract(since, until, ranges)]
        return rows

    def cover_whole(
        self,
        server: Server,
        t: Transaction,
        shop_id: str,
        stream: str,
        as_of: datetime,
        owner: Any,
        epoch: int,
    ) -> list[Row]:
        if not self.holds(shop_id, owner, epoch, server.world.now):
            return [Row(held=False)]
        t.claims.append((shop_id, owner, epoch))
        server.lock(t, ("cursor", shop_id, stream))
        if (cursor := self.cursors.get((shop_id, stream))) is not None:
            cursor.synced_until = max(cursor.synced_until or as_of, as_of)
        return [Row(held=True)]

    def ensure_cursors(
        self, server: Server, _t: Transaction, shop_id: str, streams: Sequence[str]
    ) -> list[Row]:
        for stream in streams:
            self.cursors.setdefault((shop_id, stream), CursorRow(server.world.now))
        return []

    def note_attempts(self, server: Server, t: Transaction, *tried: Sequence[Any]) -> list[Row]:
        rows = []
        for shop_id, stream, owner, epoch in zip(*tried, strict=True):
            cursor = self.cursors.get((shop_id, stream))
            if cursor is None:
                continue
            rows.append(Row(shop_id=shop_id, stream=stream))
            if self.is_owner(shop_id, owner, epoch) and server.lock(
                t, ("cursor", shop_id, stream), skips=True
            ):
                cursor.attempted_at = server.world.now
        return rows

    def note_successes(self, server: Server, t: Transaction, *noted: Sequence[Any]) -> list[Row]:
        rows = []
        for shop_id, stream, due_in_s, owner, epoch in zip(*noted, strict=True):
            cursor = self.cursors.get((shop_id, stream))
            if cursor is None or not self.is_owner(shop_id, owner, epoch):
                continue
            if not server.lock(t, ("cursor", shop_id, stream), skips=True):
                continue
            t.writes.append(lambda c=cursor, s=due_in_s: note_success(c, server.world.now, s))  # type: ignore[misc]
            rows.append(Row(shop_id=shop_id, stream=stream, rejects=0))
        return rows

    def lock_cursor(self, server: Server, t: Transaction, shop_id: str, stream: str) -> list[Row]:
        if (shop_id, stream) not in self.cursors:
            return []
        server.lock(t, ("cursor", shop_id, stream))
        return [Row(locked=1)]

    def note_failure(
        self,
        server: Server,
        t: Transaction,
        shop_id: str,
        stream: str,
        error: str,
        due_in_s: float,
        parked_reason: str | None,
        owner: Any,
        epoch: int | None,
    ) -> list[Row]:
        cursor = self.cursors.get((shop_id, stream))
        if cursor is None or not self.is_owner(shop_id, owner, epoch):
            return []
        server.lock(t, ("cursor", shop_id, stream))
        cursor.failures += 1
        cursor.last_error, cursor.parked_reason = error, parked_reason
        cursor.due_at = server.world.now + due_in_s
        return []

    def cursor_failures(self, _s: Server, _t: Transaction, shop_id: str, stream: str) -> list[Row]:
        cursor = self.cursors.get((shop_id, stream))
        return [] if cursor is None else [Row(failures=cursor.failures)]

    def due_shops(
        self,
        server: Server,
        _t: Transaction,
        streams: Sequence[str],
        at_most: int,
        besides: Sequence[str],
        visited: Sequence[str],
    ) -> list[Row]:
        now = server.world.now
        waiting: dict[str, float] = {}
        for (shop_id, stream), cursor in self.cursors.items():
            if cursor.due_at > now or shop_id in besides or stream not in streams:
                continue
            lease = self.leases.get(shop_id)
            is_held = lease is not None and lease.expires_at > now and not lease.session.is_lost
            if self.states.get(shop_id) in _ACTIVE and (not is_held or shop_id in visited):
                waiting[shop_id] = min(waiting.get(shop_id, cursor.due_at), cursor.due_at)
        first = sorted(waiting, key=lambda shop_id: waiting[shop_id])[:at_most]
        return [
            Row(
                shop_id=shop_id,
                streams=[
                    s
                    for s in streams
                    if (c := self.cursors.get((shop_id, s))) is not None and c.due_at <= now + _ALL_BUT_DUE_S
                ],
            )
            for shop_id in first
        ]

    def retry_failed(self, server: Server, _t: Transaction) -> list[Row]:
        for cursor in self.cursors.values():
            if cursor.last_error is not None:
                cursor.due_at = min(cursor.due_at, server.world.now)
        return []

    def make_due(self, server: Server, _t: Transaction, shop_id: str) -> list[Row]:
        for (owner, _), cursor in self.cursors.items():
            if owner == shop_id:
                cursor.due_at, cursor.failures = server.world.now, 0
                cursor.last_error = cursor.parked_reason = None
        return []

    # runs.sql and shops.sql

    def reserve_runs(self, _s: Server, _t: Transaction, shop_ids: Sequence[str]) -> list[Row]:
        self.runs += len(shop_ids)
        return [Row(shop_id=shop_id, run_id=self.runs - i) for i, shop_id in enumerate(shop_ids)]

    def draw_slice_ids(self, _s: Server, _t: Transaction, count: int) -> list[Row]:
        self.slices += count
        return [Row(slice_id=self.slices - count + i) for i in range(1, count + 1)]

    def list_shops(self, _s: Server, _t: Transaction, shop_ids: Sequence[str] | None) -> list[Row]:
        wanted = list(self.shops) if shop_ids is None else shop_ids
        return [self.shops[shop_id] for shop_id in wanted if shop_id in self.shops]

    def note_nothing(self, _s: Server, _t: Transaction, *_: Any) -> list[Row]:
        """For what tells people of the sync and nobody asks for here."""
        return []

    def count_nothing(self, _s: Server, _t: Transaction, *_: Any) -> list[Row]:
        return [Row(count=0)]
