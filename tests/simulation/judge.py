"""What must hold at every commit, and what must be true in the end."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sync.model import epoch
from tests.simulation.api import Api
from tests.simulation.books import Books
from tests.simulation.postgres import Transaction
from tests.simulation.rows import HintRow
from tests.simulation.seller import Seller
from tests.simulation.tables import Key, Stored, Tables
from tests.simulation.world import Violation, World

# How long something due may wait while a process is there that could see to it.
_PATIENCE_S = 900.0
_BACKOFF_S = 3900.0
# Longer than any request is on its way.
_ON_THE_WAY_S = 0.35
_DATED = ("orders", "products")


class Judge:
    """Watches the database of a run. Raises Violation where a promise is broken."""

    def __init__(self, world: World, *, api: Api, books: Books, tables: Tables) -> None:
        self._world = world
        self._api = api
        self._books = books
        self._tables = tables
        self._writers: dict[tuple[str, int], Any] = {}
        # The update time that each hint's record had, at the least, when the hint came.
        self._hinted: dict[tuple[str, str, str], int] = {}
        tables.on_write = self._judge_write
        tables.on_close = self._judge_close

    def judge_commit(self, transaction: Transaction) -> None:
        """Only whoever holds the shop's lease, in its present epoch, commits anything of it."""
        for shop_id, owner, held_epoch in transaction.claims:
            self._world.record(f"commit {shop_id} {held_epoch} {len(transaction.writes)}")
            lease = self._books.leases[shop_id]
            if (lease.owner, lease.epoch) != (owner, held_epoch):
                raise Violation(f"shop {shop_id} was written in epoch {held_epoch}, which was over")
            if self._writers.setdefault((shop_id, held_epoch), owner) != owner:
                raise Violation(f"two processes wrote shop {shop_id} in epoch {held_epoch}")

    def _judge_write(self, table: str, key: Key, old: Stored | None, new: Stored) -> None:
        self._world.record(f"write {table} {key} {new.update_time} {new.raw!r} {new.is_deleted}")
        if old is None:
            return
        if new.update_time < old.update_time:
            raise Violation(f"{table} {key} went back from {old.update_time} to {new.update_time}")
        if new.update_time == old.update_time and new.fetched_at < old.fetched_at:
            raise Violation(f"{table} {key}: an earlier answer replaced a later one of the same update time")

    def _judge_close(self, shop_id: str, stream: str, since: datetime, until: datetime) -> None:
        """What is settled is not read again: everything of it must be stored by now."""
        self._world.record(f"close {shop_id} {stream} {since} {until}")
        if until <= since or stream not in _DATED:
            return
        table = self._api.sellers[shop_id].table(stream)
        for key in table.due(epoch(since), epoch(until)):
            stored = self._tables.rows[stream].get((shop_id, key))
            if stored is None or stored.update_time < table.truth[key].update_s:
                raise Violation(
                    f"{stream} of {shop_id} is noted as settled in [{since}, {until}), but {key} of "
                    f"{table.truth[key].update_s} is stored as {stored}"
                )

    def note_heard(self, shop_id: str, stream: str, key: str) -> None:
        if stream in _DATED:
            version = self._api.sellers[shop_id].table(stream).truth[key]
            self._hinted[shop_id, stream, key] = version.update_s

    def judge_settled(self, shop_id: str, stream: str, key: str, _hint: HintRow) -> None:
        """A hint is gone only once what it names was read, at least as it was then."""
        least = self._hinted.pop((shop_id, stream, key), None)
        if least is None or stream != "orders":
            return
        stored = self._tables.rows[stream].get((shop_id, key))
        if stored is None or stored.update_time < least:
            raise Violation(f"the hint at {stream} {key} of {shop_id} was settled without being read")

    def judge_request(self, shop_id: str, machine: str) -> None:
        """Whoever asks of the shop holds its lease, or did when the request left."""
        now, lease = self._world.now, self._books.leases.get(shop_id)
        if lease is None or lease.expires_at <= now or lease.session.is_lost:
            return
        holder = lease.session.machine.name
        if holder != machine and now - lease.taken_at > _ON_THE_WAY_S:
            raise Violation(
                f"{machine} asks of shop {shop_id}, which {holder} has had for {now - lease.taken_at} s"
            )

    def judge_waiting(self, undisturbed_since: float, intervals_s: dict[str, float]) -> None:
        """Nothing has been due for long, and nothing is left alone, as far as anybody could see to it."""
        now = self._world.now
        for (shop_id, stream), cursor in self._books.cursors.items():
            longest_s = _BACKOFF_S if cursor.failures else 1.3 * intervals_s[stream]
            since = max(undisturbed_since, cursor.attempted_at or 0.0)
            if now - since > longest_s + _PATIENCE_S:
                raise Violation(f"nobody has looked at {stream} of {shop_id} for {now - since:.0f} s")
            since = max(cursor.due_at, undisturbed_since, cursor.attempted_at or 0.0)
            if now - since > _PATIENCE_S:
                raise Violation(f"{stream} of {shop_id} has been due for {now - cursor.due_at:.0f} s")

    def compare(self) -> None:
        """The copy equals the truth."""
        for seller in self._api.sellers.values():
            for stream in _DATED:
                table = seller.table(stream)
                truth = {k: table.render(k, version) for k, version in table.truth.items()}
                self._compare(seller, stream, truth, self._stored(seller, stream))
            stock = {f"9{k}": seller.render_sku(k) for k in seller.stock}
            self._compare(seller, "inventory", stock, self._stored(seller, "inventory", lives=True))
            warehouses = {k: seller.render_warehouse(k) for k in seller.warehouses}
            self._compare(seller, "warehouses", warehouses, self._stored(seller, "warehouses", lives=True))

    def _stored(self, seller: Seller, table: str, *, lives: bool = False) -> dict[str, Any]:
        rows = self._tables.rows[table]
        return {
            k[1]: row.raw
            for k, row in rows.items()
            if k[0] == seller.shop_id and not (lives and row.is_deleted)
        }

    def _compare(self, seller: Seller, table: str, truth: dict[str, Any], stored: dict[str, Any]) -> None:
        if truth == stored:
            return
        wrong = [k for k in truth.keys() | stored.keys() if truth.get(k) != stored.get(k)]
        key = min(wrong)
        raise Violation(
            f"{len(wrong)} {table} of {seller.shop_id} differ, first {key}: true {truth.get(key)}, "
            f"stored {stored.get(key)}"
        )
