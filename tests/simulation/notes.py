"""What the statements of hints do, in memory. See books.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from tests.simulation.books import Books
from tests.simulation.postgres import Server, Transaction
from tests.simulation.rows import HintRow, Row

_WANTED_S = 3.0


class Notes:
    """The tables sync.notifications and sync.hints. ``on_settled`` hears of each hint that was read,
    ``on_heard`` of each that came."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.on_settled: Callable[[str, str, str, HintRow], None] = lambda *_: None
        self.on_heard: Callable[[str, str, str], None] = lambda *_: None

    def hear_notifications(
        self,
        server: Server,
        _t: Transaction,
        names: Sequence[str],
        shop_ids: Sequence[str],
        _apps: Sequence[str],
        places: Sequence[int],
        streams: Sequence[str],
        keys: Sequence[str],
        moments: Sequence[datetime | None],
    ) -> list[Row]:
        books, rows, heard = self._books, [], set()
        for place, (name, shop_id) in enumerate(zip(names, shop_ids, strict=True), start=1):
            if books.states.get(shop_id) not in ("active", "inactive"):
                rows.append(Row(place=place, outcome="unknown_shop"))
            elif name in books.notifications:
                rows.append(Row(place=place, outcome="duplicate"))
            else:
                books.notifications.add(name)
                heard.add(place)
                rows.append(Row(place=place, outcome="hinted"))
        for place, stream, key, changed_at in zip(places, streams, keys, moments, strict=True):
            if place in heard:
                self._hint(server, (shop_ids[place - 1], stream, key), changed_at)
        return rows

    def _hint(self, server: Server, key: tuple[str, str, str], changed_at: datetime | None) -> None:
        self.on_heard(*key)
        now, known = server.world.now, self._books.hints.get(key)
        if known is None:
            self._books.hints[key] = HintRow(server.world.clock(), now, "notification", changed_at)
            return
        known.version += 1
        known.source, known.tries, known.due_at = "notification", 0, now
        known.changed_at = max((m for m in (known.changed_at, changed_at) if m is not None), default=None)

    def due_hints(
        self, server: Server, _t: Transaction, shop_id: str, streams: Sequence[str], at_most: int
    ) -> list[Row]:
        books = self._books
        of_shop = sorted(key for key in books.hints if key[0] == shop_id)
        parked = {s for (owner, s), c in books.cursors.items() if owner == shop_id and c.parked_reason}
        for key in of_shop:
            if key[1] in parked:
                del books.hints[key]
        rows = []
        for stream in streams:
            due = [
                k
                for k in of_shop
                if k[1] == stream and stream not in parked and books.hints[k].due_at <= server.world.now
            ]
            rows += [_show(stream, key[2], books.hints[key]) for key in due[:at_most]]
        return rows

    def settle_hints(self, _s: Server, _t: Transaction, shop_id: str, *columns: Sequence[Any]) -> list[Row]:
        gone = 0
        for stream, key, version in zip(*columns, strict=True):
            hint = self._books.hints.get((shop_id, stream, key))
            if hint is not None and hint.version == version:
                self.on_settled(shop_id, stream, key, hint)
                del self._books.hints[shop_id, stream, key]
                gone += 1
        return [Row(count=gone)]

    def postpone_hints(
        self,
        server: Server,
        _t: Transaction,
        shop_id: str,
        streams: Sequence[str],
        keys: Sequence[str],
        versions: Sequence[int],
        wait_s: float,
        most_tries: int,
    ) -> list[Row]:
        for stream, key, version in zip(streams, keys, versions, strict=True):
            hint = self._books.hints.get((shop_id, stream, key))
            if hint is None or hint.version != version:
                continue
            hint.tries += 1
            if hint.tries >= most_tries:
                del self._books.hints[shop_id, stream, key]
            else:
                hint.due_at = server.world.now + wait_s * 2 ** (hint.tries - 1)
        return []

    def drop_hints(self, _s: Server, _t: Transaction, shop_id: str) -> list[Row]:
        for key in [key for key in self._books.hints if key[0] == shop_id]:
            del self._books.hints[key]
        return []

    def hinted_shops(self, server: Server, _t: Transaction) -> list[Row]:
        now, books = server.world.now, self._books
        rows = []
        for shop_id in sorted({key[0] for key, hint in books.hints.items() if hint.due_at <= now}):
            lease = books.leases.get(shop_id)
            is_held = lease is not None and (
                lease.wanted_at > now - _WANTED_S or (lease.expires_at > now and not lease.session.is_lost)
            )
            if books.states.get(shop_id) == "active":
                rows.append(Row(shop_id=shop_id, is_held=is_held))
        return rows

    def want_lease(self, server: Server, _t: Transaction, shop_id: str) -> list[Row]:
        if (lease := self._books.leases.get(shop_id)) is not None:
            lease.wanted_at = server.world.now
        return []

    def wanted_shops(self, server: Server, _t: Transaction, shop_ids: Sequence[str]) -> list[Row]:
        leases = self._books.leases
        return [
            Row(shop_id=shop_id)
            for shop_id in shop_ids
            if shop_id in leases and leases[shop_id].wanted_at > server.world.now - _WANTED_S
        ]


def _show(stream: str, key: str, hint: HintRow) -> Row:
    return Row(
        stream=stream,
        key=key,
        version=hint.version,
        source=hint.source,
        changed_at=hint.changed_at,
        heard_at=hint.heard_at,
    )
