"""Who syncs a shop: leases with an epoch that fences off whoever was overtaken."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import asyncpg
import structlog

from sync import metrics
from sync.errors import DatabaseError, FencedOutError
from sync.store.pool import closed_when_useless, named_losses
from sync.store.queries import query
from sync.store.together import Together

log = structlog.get_logger(__name__)

_LIFE_S = 30.0
_RENEW_EVERY_S = 8.0
# Requests stop this long before the lease ends, so that the last one is answered before another
# process may send its first.
_RESERVE_S = 10.0
# A lease that is free and locked is being taken by another process, or a dead owner's last page is
# being stored: either is over soon. It is asked for again after so long each, and then given up.
_LOOK_AGAIN_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
# Somebody may keep a row of the leases locked, and meanwhile other shops want their turn here.
# Nobody waits for the disk: a crash of Postgres ends every lease, and so may forget the newest.
_SESSION = {"application_name": "shopsync leases", "lock_timeout": "3s", "synchronous_commit": "off"}


@dataclass(slots=True)
class Lease:
    """The right to read and write one shop. Times are monotonic: a wall clock may jump.

    ``learned_rate`` is what TikTok was found to allow the shop, in requests per second, or None
    for the documented limit; whoever learns better changes it, and the next holder starts with it.
    """

    shop_id: str
    owner: uuid.UUID
    epoch: int
    taken_over: bool
    good_until: float
    learned_rate: float | None = None
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        """Returns while the lease is certainly still ours; raises FencedOutError otherwise."""
        if self.lost.is_set() or time.monotonic() > self.good_until:
            self.lost.set()
            raise FencedOutError(f"the lease of shop {self.shop_id} ran out or was taken over")


# With the connection that it lives and dies with.
_Granted = tuple[Lease, asyncpg.Connection] | Literal["locked"]


class LeaseKeeper:
    """Takes leases for this process and renews them. Use as an async context manager.

    It holds one connection of its own: when that is gone, so is the process, and others may take
    its leases at once instead of waiting for them to run out.
    """

    def __init__(self, url: str) -> None:
        self.owner = uuid.uuid4()
        self._url = url
        self._holder = f"{socket.gethostname()} pid {os.getpid()}"
        self._held: dict[str, Lease] = {}
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._acquiring: Together[str, _Granted | None] = Together(self._acquire, key=lambda shop_id: shop_id)
        self._releasing: Together[Lease, None] = Together(self._release, key=lambda lease: lease.shop_id)

    async def __aenter__(self) -> LeaseKeeper:
        async with self._turn:
            await self._connect()
        self._renewal = asyncio.create_task(self._renew_for_ever(), name="lease renewal")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        for lease in self._held.values():
            lease.lost.set()
        self._held.clear()
        if self._connection is not None:
            # With the connection every lease is free for others; asking a dead server would hang.
            self._connection.terminate()

    async def acquire(self, shop_id: str) -> Lease | None:
        """The shop's lease, or None while another process holds it."""
        granted = await self._acquiring.ask(shop_id)
        for wait_s in _LOOK_AGAIN_S:
            if granted != "locked":
                break
            # No connection waits for the lock: there may be as many locked leases as shops.
            await asyncio.sleep(wait_s)
            granted = await self._acquiring.ask(shop_id)
        if granted is None or isinstance(granted, str):
            return None  # Whoever has it locked has it, if only for a last page.
        lease, connection = granted
        is_current = self._connection is connection
        if not is_current or connection.is_closed():
            lease.lost.set()  # Lost again before it was handed over.
            return lease
        self._held[shop_id] = lease
        metrics.LEASES.set(len(self._held))
        return lease

    async def release(self, lease: Lease) -> None:
        """The shop is free for the next process; never raises, since leases also end by themselves."""
        lease.lost.set()
        if self._held.get(lease.shop_id) is lease:
            del self._held[lease.shop_id]
            metrics.LEASES.set(len(self._held))
        # Shielded: a sync that is cut short gives its shop back all the same.
        await asyncio.shield(asyncio.create_task(self._give_back(lease)))

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._releasing.ask(lease)
        except DatabaseError as error:
            log.warning("lease_release_failed", shop_id=lease.shop_id, reason=str(error))

    async def _acquire(self, shop_ids: Sequence[str]) -> list[_Granted | None]:
        asked = time.monotonic()
        async with self._turn:
            with named_losses(self._url):
                connection = await self._connect()
                with closed_when_useless(connection):
                    rows = await connection.fetch(
                        query("acquire_leases"), shop_ids, self.owner, self._holder, _LIFE_S, timeout=10
                    )
        found: dict[str, _Granted] = {
            row["shop_id"]: "locked" if row["epoch"] is None else (self._lease(row, asked), connection)
            for row in rows
        }
        return [found.get(shop_id) for shop_id in shop_ids]

    def _lease(self, row: asyncpg.Record, asked: float) -> Lease:
        return Lease(
            shop_id=row["shop_id"],
            owner=self.owner,
            epoch=row["epoch"],
            taken_over=bool(row["taken_over"]),
            good_until=asked + _LIFE_S - _RESERVE_S,
            learned_rate=row["learned_rate"],
        )

    async def _release(self, leases: Sequence[Lease]) -> list[None]:
        async with self._turn:
            if self._connection is not None and not self._connection.is_closed():
                with named_losses(self._url):
                    await self._connection.execute(
                        query("release_leases"),
                        self.owner,
                        [lease.shop_id for lease in leases],
                        [lease.epoch for lease in leases],
                        [lease.learned_rate for lease in leases],
                        timeout=5,
                    )
        return [None for _ in leases]

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            with named_losses(self._url):
                self._connection = await asyncpg.connect(self._url, timeout=10, server_settings=_SESSION)
            self._connection.add_termination_listener(self._lose_all)
        return self._connection

    def _lose_all(self, connection: asyncpg.Connection) -> None:
        """Without the connection others count us as dead: no request may leave before a new lease."""
        if connection is not self._connection:
            return
        for lease in self._held.values():
            lease.lost.set()
            log.warning("lease_lost", shop_id=lease.shop_id, epoch=lease.epoch)
        self._held.clear()

    async def _renew_for_ever(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self._renew()
                failures = 0
            except DatabaseError as error:
                failures += 1
                log.warning("lease_renewal_failed", reason=str(error), failures=failures)
                if failures > 1 and self._connection is not None:
                    # Perhaps it leads nowhere any more. Leases that are not renewed run out anyway.
                    self._connection.terminate()
            except Exception:
                # The outermost loop of the renewals: without it no lease of this process would be renewed.
                log.exception("lease_renewal_crashed")

    async def _renew(self) -> None:
        leases = dict(self._held)
        if not leases:
            return
        asked = time.monotonic()
        async with self._turn:
            with named_losses(self._url):
                connection = await self._connect()
                rows = await connection.fetch(
                    query("renew_leases"), self.owner, list(leases), _LIFE_S, timeout=_RENEW_EVERY_S
                )
        renewed = {row["shop_id"] for row in rows}
        for shop_id, lease in leases.items():
            if shop_id in renewed:
                lease.good_until = asked + _LIFE_S - _RESERVE_S
            elif self._held.get(shop_id) is lease:
                lease.lost.set()
                del self._held[shop_id]
                log.warning("lease_lost", shop_id=shop_id, epoch=lease.epoch)
