"""Who syncs a shop: leases with an epoch that fences off whoever was overtaken."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from dataclasses import dataclass, field

import asyncpg
import structlog

from sync import metrics
from sync.errors import DatabaseError, FencedOutError
from sync.store.pool import named_losses
from sync.store.queries import query

log = structlog.get_logger(__name__)

_LIFE_S = 30.0
_RENEW_EVERY_S = 8.0
# Requests stop this long before the lease ends, so that the last one is answered before another
# process may send its first.
_RESERVE_S = 10.0
# Somebody may keep a row of the leases locked, and meanwhile other shops want their turn here.
_LOCK_TIMEOUT = "3s"


@dataclass(slots=True)
class Lease:
    """The right to read and write one shop. Times are monotonic: a wall clock may jump."""

    shop_id: str
    owner: uuid.UUID
    epoch: int
    taken_over: bool
    good_until: float
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        """Returns while the lease is certainly still ours; raises FencedOutError otherwise."""
        if self.lost.is_set() or time.monotonic() > self.good_until:
            self.lost.set()
            raise FencedOutError(f"the lease of shop {self.shop_id} ran out or was taken over")


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
        asked = time.monotonic()
        async with self._turn:
            with named_losses(self._url):
                connection = await self._connect()
                try:
                    row = await connection.fetchrow(
                        query("acquire_lease"), shop_id, self.owner, self._holder, _LIFE_S, timeout=10
                    )
                except asyncpg.LockNotAvailableError:
                    return None  # Whoever has it locked has it, if only for a last page.
        if row is None:
            return None
        lease = Lease(
            shop_id=shop_id,
            owner=self.owner,
            epoch=row["epoch"],
            taken_over=bool(row["taken_over"]),
            good_until=asked + _LIFE_S - _RESERVE_S,
        )
        self._held[shop_id] = lease
        metrics.LEASES.set(len(self._held))
        return lease

    async def release(self, lease: Lease) -> None:
        """The shop is free for the next process; never raises, since leases also end by themselves."""
        lease.lost.set()
        if self._held.get(lease.shop_id) is lease:
            del self._held[lease.shop_id]
            metrics.LEASES.set(len(self._held))
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                return
            try:
                with named_losses(self._url):
                    await self._connection.execute(
                        query("release_lease"), lease.shop_id, self.owner, timeout=5
                    )
            except DatabaseError as error:
                log.warning("lease_release_failed", shop_id=lease.shop_id, reason=str(error))

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            with named_losses(self._url):
                self._connection = await asyncpg.connect(
                    self._url,
                    timeout=10,
                    server_settings={"application_name": "shopsync leases", "lock_timeout": _LOCK_TIMEOUT},
                )
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
