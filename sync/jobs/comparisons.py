"""Shops that are compared with TikTok Shop's own counts in the background, a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

import structlog

from sync.engine.fleet import Fleet
from sync.engine.requests import VERIFY, SyncRequest, Verify
from sync.errors import DatabaseError, SyncError
from sync.store.proofs import Proofs

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 5.0
_ENSURE_EVERY_S = 60.0
_MOST_AT_ONCE = 2
# What cannot begin, or was cut short, has its turn again then.
_AGAIN_S = 300.0


class Comparisons:
    """Starts comparisons of shops that are due, each again ``every_s`` after its end; 0 switches that off.

    They repair what they find. A round that is due ends them, and they go on another time.
    """

    def __init__(self, *, fleet: Fleet, proofs: Proofs, streams: tuple[str, ...], every_s: float) -> None:
        self._fleet = fleet
        self._proofs = proofs
        self._streams = streams
        self._every_s = every_s
        self._look_at = 0.0
        self._ensure_at = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def look(self) -> None:
        """One look for all shops; most of the time it does nothing. Raises DatabaseError."""
        now = time.monotonic()
        if not self._every_s or now < self._look_at or len(self._tasks) >= _MOST_AT_ONCE:
            return
        self._look_at = now + _LOOK_EVERY_S
        if now >= self._ensure_at:
            self._ensure_at = now + _ENSURE_EVERY_S
            await self._proofs.ensure(self._streams)
        room = _MOST_AT_ONCE - len(self._tasks)
        due = await self._proofs.take_due(self._streams, at_most=room, again_in_s=_AGAIN_S)
        for shop_id, streams in due:
            task = asyncio.create_task(self._compare(shop_id, streams), name=f"comparison of {shop_id}")
            self._tasks[shop_id] = task
            task.add_done_callback(partial(self._forget, shop_id))

    def close(self) -> Iterable[asyncio.Task[None]]:
        """No comparison begins any more; the answer is those that have not ended."""
        self._every_s = 0.0
        return tuple(self._tasks.values())

    def _forget(self, shop_id: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(shop_id, None)

    async def _compare(self, shop_id: str, streams: tuple[str, ...]) -> None:
        wish = Verify(streams, repairs=True, anew=False, in_background=True, due_in_s=self._every_s)
        try:
            await self._fleet.sync(SyncRequest(shop_id, (), reason=VERIFY, verify=wish))
        except DatabaseError as error:
            log.info("comparison_left", shop_id=shop_id, stream=", ".join(streams), reason=str(error))
        except SyncError as error:
            log.error("sync_failed", shop_id=shop_id, reason=str(error))
        except Exception:
            # The outermost loop of a shop: a fault of ours must not stop the other shops.
            log.exception("sync_crashed", shop_id=shop_id)
