"""The statements' stand-ins in memory give Postgres's answers, one random sequence after the other."""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from sync.model import Record, Tally, Window
from sync.store.ledger import Closing, close_slice
from sync.store.pool import _SESSION
from tests.integration.statement_pair import MemorySession, Pair
from tests.simulation.books import Books
from tests.simulation.notes import Notes
from tests.simulation.postgres import Server
from tests.simulation.ranges import Ranges
from tests.simulation.statements import statements
from tests.simulation.tables import Tables
from tests.simulation.world import Machine, World

_STEPS = 350
_SHOPS = ("1", "2", "3")
_STREAMS = ("orders", "products", "inventory", "warehouses")
_T0 = datetime(2026, 3, 1, tzinfo=UTC)
_STATE = {
    "leases": "SELECT shop_id, owner, epoch, expires_at > now() AS lives, learned_rate FROM sync.leases",
    "cursors": "SELECT shop_id, stream, covered::text, settled::text, synced_until, failures, last_error,"
    " parked_reason, due_at > now() AS waits FROM sync.cursors",
    "hints": "SELECT shop_id, stream, key, source, changed_at, version, tries, due_at > now() AS waits"
    " FROM sync.hints",
    "orders": "SELECT shop_id, order_id, extract(epoch FROM update_time)::bigint AS updated, _fetched_at,"
    " _raw, _digest, false AS gone FROM tiktok.orders",
    "products": "SELECT shop_id, product_id, extract(epoch FROM update_time)::bigint AS updated, _fetched_at,"
    " _raw, _digest, _deleted_at IS NOT NULL AS gone FROM tiktok.products",
    "inventory": "SELECT shop_id, sku_id, warehouse_id, _raw, product_id, _deleted_at IS NOT NULL AS gone"
    " FROM tiktok.inventory",
    "warehouses": "SELECT shop_id, warehouse_id, _raw, _deleted_at IS NOT NULL AS gone"
    " FROM tiktok.warehouses",
}


class Script:
    """Random statements, such as daemons send them."""

    def __init__(self, seed: int, pairs: Sequence[Pair]) -> None:
        self._rng = random.Random(f"script {seed}")
        self._pairs = pairs
        self._owners = [uuid.UUID(int=self._rng.getrandbits(128)) for _ in pairs]
        self._epochs: dict[tuple[int, str], int] = {}
        self._names = 0

    def _at(self) -> datetime:
        return _T0 + timedelta(seconds=self._rng.randint(0, 40))

    def _claim(self, place: int, shop_id: str) -> tuple[uuid.UUID, int]:
        return self._owners[place], self._epochs.get((place, shop_id), 7)

    async def step(self) -> None:
        place, shop_id = self._rng.randrange(len(self._pairs)), self._rng.choice(_SHOPS)
        do: Callable[[int, str], Awaitable[None]] = self._rng.choice(
            (
                self._lease,
                self._lease,
                self._page,
                self._page,
                self._page,
                self._cursor,
                self._cursor,
                self._hint,
            )
        )
        await do(place, shop_id)

    async def _lease(self, place: int, shop_id: str) -> None:
        pair, owner = self._pairs[place], self._owners[place]
        life_s = self._rng.choice((600.0, 600.0, -1.0))
        dice = self._rng.randrange(4)
        if dice < 2:
            for row in await pair.ask("acquire_leases", [shop_id], owner, "test", life_s):
                self._epochs[place, shop_id] = row["epoch"]
        elif dice == 2:
            await pair.ask("renew_leases", owner, [shop_id], 600.0)
        else:
            epoch = self._claim(place, shop_id)[1] - self._rng.choice((0, 0, 1))
            await pair.ask("release_leases", owner, [shop_id], [epoch], [self._rng.choice((None, 9.5))])

    async def _page(self, place: int, shop_id: str) -> None:
        """A page in a transaction of its own; meanwhile the others look for the shop."""
        pair, claim = self._pairs[place], self._claim(place, shop_id)
        stream = self._rng.choice(_STREAMS)
        await pair.begin()
        held = await pair.ask("hold_lease", shop_id, *claim)
        if held or self._rng.random() < 0.3:
            await self._store(pair, stream, shop_id)
            if self._rng.random() < 0.5:
                await self._close(pair, stream, shop_id)
            if held:
                await self._disturb(place, shop_id, stream)
        await pair.end(commits=self._rng.random() < 0.8)

    async def _store(self, pair: Pair, stream: str, shop_id: str) -> None:
        records = [self._record(stream) for _ in range(self._rng.randint(1, 5))]
        raws = [msgspec.json.encode(r) for r in records]
        values: list[Any] = [shop_id, b"[" + b",".join(raws) + b"]", self._at(), []]
        digests = [Record(None, raw).digest for raw in raws]
        keys = [str(r.get("id") or r.get("product_id")) for r in records]
        if stream in ("orders", "products"):
            await pair.ask(f"known_{stream}", shop_id, keys, digests, *self._claim(0, shop_id))
            values.append(digests)
        values.append(self._rng.choice(([], [], [keys[0]])))
        if stream == "warehouses":
            values.append(self._rng.random() < 0.5)
        values.append(None)
        await pair.ask(f"store_{stream}", *values)

    def _record(self, stream: str) -> dict[str, Any]:
        key, version = str(self._rng.randint(1, 6)), self._rng.randint(1, 2)
        if stream == "inventory":
            level = {"warehouse_id": self._rng.choice("12"), "available_quantity": version}
            skus = [{"id": f"9{key}", "warehouse_inventory": [level]}] if self._rng.random() < 0.8 else []
            return {"product_id": key, "skus": skus}
        if stream == "warehouses":
            return {"id": key, "name": f"w{version}"}
        status = self._rng.choice(("COMPLETED", "DELETED")) if stream == "products" else "COMPLETED"
        updated = int(self._at().timestamp()) // 10 * 10
        return {"id": key, "status": status, "update_time": updated, "v": version}

    async def _close(self, pair: Pair, stream: str, shop_id: str) -> None:
        since = self._at()
        until = since + timedelta(seconds=self._rng.randint(1, 15))
        closing = Closing(
            0, Window(since, until), "clean", _T0, self._at(), covers=self._rng.random() < 0.8,
            tally=Tally(requests=1),
        )  # fmt: skip
        await close_slice(pair.real, stream, shop_id, closing, Tally())
        closing = Closing(
            0, closing.slice_, "clean", _T0, closing.settled_until, covers=closing.covers, tally=Tally()
        )
        memory: Any = pair.memory
        await close_slice(memory, stream, shop_id, closing, Tally())

    async def _disturb(self, place: int, shop_id: str, stream: str) -> None:
        other = (place + 1) % len(self._pairs)
        pair, (owner, epoch) = self._pairs[other], self._claim(other, shop_id)
        await pair.ask("acquire_leases", [shop_id], owner, "test", 600.0)
        await pair.ask("hold_leases", [shop_id], [owner], [epoch], [stream])
        await pair.ask("note_attempts", [shop_id], [stream], [None], [None])
        await pair.ask("note_successes", [shop_id], [stream], [900.0], [None], [None])

    async def _cursor(self, place: int, shop_id: str) -> None:
        pair, claim, stream = self._pairs[place], self._claim(place, shop_id), self._rng.choice(_STREAMS)
        owner, epoch = self._rng.choice((claim, claim, (None, None)))
        due_s, parked = self._rng.choice((-10.0, 900.0)), self._rng.choice((None, "parked"))
        since = self._at()
        asked = ([shop_id], [stream], [since], [since + timedelta(seconds=self._rng.randint(1, 40))])
        await self._rng.choice((
            lambda: pair.ask("ensure_cursors", shop_id, [stream]),
            lambda: pair.ask("gaps", *asked),
            lambda: pair.ask("uncovered", *asked),
            lambda: pair.ask("note_attempts", [shop_id], [stream], [owner], [epoch]),
            lambda: pair.ask("note_successes", [shop_id], [stream], [due_s], [owner], [epoch]),
            lambda: pair.ask("note_failure", shop_id, stream, "no", due_s, parked, owner, epoch),
            lambda: pair.ask("cursor_failures", shop_id, stream),
            lambda: pair.ask("cover_whole", shop_id, stream, since, *claim),
            lambda: pair.ask("hold_leases", [shop_id], [claim[0]], [claim[1]], [stream]),
            lambda: pair.ask("due_shops", list(_STREAMS), 9, self._rng.choice(([], [shop_id])), []),
            lambda: pair.ask("product_ids", shop_id),
            lambda: pair.ask("retry_failed"),
            lambda: pair.ask("make_due", shop_id),
        ))()  # fmt: skip

    async def _hint(self, place: int, shop_id: str) -> None:
        pair, stream, key = self._pairs[place], self._rng.choice(_STREAMS[:2]), str(self._rng.randint(1, 3))
        self._names += 1
        name = f"n{self._rng.choice((self._names, 1))}"
        version = self._rng.randint(1, 3)
        moment = self._rng.choice((None, self._at()))
        await self._rng.choice((
            lambda: pair.ask(
                "hear_notifications", [name], [shop_id], ["default"], [1], [stream], [key], [moment]
            ),
            lambda: pair.ask("due_hints", shop_id, list(_STREAMS), 2),
            lambda: pair.ask("settle_hints", shop_id, [stream], [key], [version]),
            lambda: pair.ask("postpone_hints", shop_id, [stream], [key], [version], -2.0, 3),
            lambda: pair.ask("drop_hints", shop_id),
            lambda: pair.ask("hinted_shops"),
        ))()  # fmt: skip


def _text(ranges: Ranges) -> str:
    return "{" + ",".join(f'["{a:%Y-%m-%d %H:%M:%S}+00","{b:%Y-%m-%d %H:%M:%S}+00")' for a, b in ranges) + "}"


def _state(server: Server, books: Books, tables: Tables) -> dict[str, list[Any]]:
    now = server.world.now
    state: dict[str, list[Any]] = {
        "leases": [
            (k, lease.owner, lease.epoch, lease.expires_at > now, lease.learned_rate)
            for k, lease in books.leases.items()
        ],
        "cursors": [
            (
                *k, _text(c.covered), _text(c.settled), c.synced_until, c.failures, c.last_error,
                c.parked_reason, c.due_at > now,
            )
            for k, c in books.cursors.items()
        ],
        "hints": [
            (*k, h.source, h.changed_at, h.version, h.tries, h.due_at > now) for k, h in books.hints.items()
        ],
    }  # fmt: skip
    for name, rows in tables.rows.items():
        if name in ("orders", "products"):
            state[name] = [
                (*k, r.update_time, r.fetched_at, msgspec.json.decode(r.raw), r.digest, r.is_deleted)
                for k, r in rows.items()
            ]
        else:
            product = (lambda r: (r.product_id,)) if name == "inventory" else (lambda r: ())
            state[name] = [
                (*k, msgspec.json.decode(r.raw), *product(r), r.is_deleted) for k, r in rows.items()
            ]
    return state


@pytest.mark.parametrize("seed", range(2))
async def test_a_sequence_of_statements_is_answered_and_remembered_as_postgres_does(
    seed: int, database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO sync.credentials (app, open_id, access_token, refresh_token, access_expires_at,"
        " refresh_expires_at) VALUES ('default', 'seller', '', '', now(), now())"
    )
    await connection.execute(
        "INSERT INTO sync.shops (shop_id, credential_id, cipher, state)"
        " SELECT unnest($1::text[]), credential_id, 'c', 'active' FROM sync.credentials",
        list(_SHOPS[:2]),
    )
    world, books = World(seed), Books()
    notes, tables = Notes(books), Tables(books)
    books.states.update(dict.fromkeys(_SHOPS[:2], "active"))
    server = Server(world, statements(books, notes, tables))
    pairs = []
    for name in "ab":
        machine = Machine(world, name)
        world.machines.append(machine)
        real = await asyncpg.connect(database_url, server_settings=_SESSION)
        pairs.append(Pair(real, MemorySession(server, server.connect(machine))))
    try:
        script = Script(seed, pairs)
        for _ in range(_STEPS):
            await script.step()
        for name, rows in _state(server, books, tables).items():
            real_rows = [
                tuple(msgspec.json.decode(v) if k == "_raw" else v for k, v in row.items())
                for row in await connection.fetch(_STATE[name])
            ]
            assert sorted(rows, key=repr) == sorted(real_rows, key=repr), name
    finally:
        for pair in pairs:
            await pair.real.close()
        world.end()
