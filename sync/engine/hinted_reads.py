"""What hints name, read out of turn: beside the streams of a sync, or as all that a visit does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from sync.engine.api import ShopApi
from sync.engine.lookups import Lookups
from sync.engine.requests import RunReport
from sync.engine.run import Run
from sync.errors import (
    DatabaseError,
    FencedOutError,
    RequestError,
    SliceError,
    StreamError,
    SyncError,
)
from sync.store.cursors import Cursors
from sync.store.hints import Hint, Hints
from sync.store.leases import Lease
from sync.store.sink import Sink
from sync.streams.notifications import CONSENT
from sync.streams.registry import STREAMS

log = structlog.get_logger(__name__)

# At 25 calls a second a call that takes 0.6 s from its look to its commit needs 15 of them.
_MOST_AT_ONCE = 16
# Of the shop's pace, at the most: a flood of notifications leaves the rest to the rounds.
_SHARE = 0.5
# How long a visit waits for the next hint: taking the lease for each would cost more than its read.
_LINGER_S = 1.0
_CROWDED_S = 0.05
_LOOK_AGAIN_S = 1.0
_PARKED_S = 3600.0
_LOOK_AT = 500
# The order in which a call goes to one of several streams.
_STREAMS = (CONSENT, *(name for name, stream in STREAMS.items() if stream.webhooks))


class HintedReads:
    """Reads what is hinted at of one shop, while its lease is held.

    A call takes along all that waits for its stream at that moment. Looked at is when the bell was
    rung, so that a shop without hints costs nothing.
    """

    def __init__(
        self,
        *,
        api: ShopApi,
        sink: Sink,
        hints: Hints,
        cursors: Cursors,
        lease: Lease,
        run: Run,
        report: RunReport,
    ) -> None:
        self._api = api
        self._hints = hints
        self._cursors = cursors
        self._lease = lease
        self._lookups = Lookups(api=api, sink=sink, lease=lease, run=run, report=report)
        self._bell = asyncio.Event()
        self._is_ending = False
        self._calls = asyncio.Semaphore(_MOST_AT_ONCE)
        self._next_call = 0.0
        self._under_way: set[tuple[str, str]] = set()
        # Taken from in turns, so that no stream keeps another waiting.
        self._last_stream = ""
        # Whether others wait until this visit ends.
        self.is_crowded: Callable[[], bool] = lambda: False
        self.is_rung = False

    def ring(self) -> None:
        """There is something to read, or may be."""
        self.is_rung = True
        self._bell.set()

    def finish(self) -> None:
        """No new read is begun; those under way end."""
        self._is_ending = True
        self._bell.set()

    async def run(self, *, lingers: bool) -> None:
        """Returns after finish, or, if it ``lingers`` only, once there was nothing to read for a while.

        Afterwards ``is_rung`` tells whether something is left. Raises errors that are wider than a stream.
        """
        async with asyncio.TaskGroup() as group:
            while await self._wait_for_bell(lingers=lingers):
                await self._wait_for_call()
                try:
                    batch = [] if self._is_ending else await self._choose()
                except DatabaseError as error:
                    self._calls.release()
                    if lingers:
                        raise
                    # The streams beside know how to wait for a database; this look is not worth them.
                    log.info("hints_unread", shop_id=self._lease.shop_id, reason=str(error))
                    asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self.ring)
                    continue
                if batch:
                    group.create_task(self._read(batch))
                else:
                    self._calls.release()

    async def _wait_for_bell(self, *, lingers: bool) -> bool:
        while not self._bell.is_set():
            try:
                linger_s = _CROWDED_S if self.is_crowded() else _LINGER_S
                async with asyncio.timeout(linger_s if lingers else None):
                    await self._bell.wait()
            except TimeoutError:
                if not self._under_way:
                    return False
        return not self._is_ending

    async def _wait_for_call(self) -> None:
        """A call is free, and the shop's pace leaves room for it."""
        await self._calls.acquire()
        wait_s = self._next_call - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._next_call = max(self._next_call, time.monotonic()) + 1 / (self._api.pacer.rate * _SHARE)

    async def _choose(self) -> list[Hint]:
        """What goes into the next call; the bell stays rung when there is more."""
        self._bell.clear()
        self.is_rung = False
        found = await self._hints.due(self._lease.shop_id, _STREAMS, at_most=_LOOK_AT)
        waiting = [hint for hint in found if (hint.stream, hint.key) not in self._under_way]
        if not waiting:
            return []
        streams = sorted({hint.stream for hint in waiting}, key=_STREAMS.index)
        after = [name for name in streams if _place(name) > _place(self._last_stream)]
        self._last_stream = (after or streams)[0]
        batch = self._lookups.select([hint for hint in waiting if hint.stream == self._last_stream])
        if len(batch) < len(waiting):
            self.ring()
        self._under_way |= {(hint.stream, hint.key) for hint in batch}
        return batch

    async def _read(self, batch: Sequence[Hint]) -> None:
        shop_id, stream = self._lease.shop_id, batch[0].stream
        try:
            settled, left = await self._lookups.read(batch)
            if settled and await self._hints.settle(shop_id, settled) < len(settled):
                self.ring()  # Hinted at again while it was read.
            if left:
                await self._hints.postpone(shop_id, left)
        except (RequestError, SliceError) as error:
            log.info("hints_postponed", shop_id=shop_id, stream=stream, count=len(batch), reason=str(error))
            await self._hints.postpone(shop_id, batch)
        except StreamError as error:
            await self._park(batch, error)
        except (FencedOutError, DatabaseError):
            raise
        except SyncError:
            # Due at once the shop would be visited again at once, and refused again.
            await self._hints.postpone(shop_id, batch)
            raise
        finally:
            self._under_way -= {(hint.stream, hint.key) for hint in batch}
            self._calls.release()

    async def _park(self, batch: Sequence[Hint], error: StreamError) -> None:
        """The stream waits for its round in an hour; until then nothing of it is read out of turn either."""
        shop_id, stream = self._lease.shop_id, batch[0].stream
        log.warning("stream_parked", shop_id=shop_id, stream=stream, reason=str(error))
        await self._cursors.note_failure(
            shop_id, stream, error=str(error), due_in_s=_PARKED_S, parked_reason=str(error)
        )
        # Whoever looks next forgets the others. A consent has no round that would find it parked.
        await self._hints.settle(shop_id, batch)
        self.ring()


def _place(stream: str) -> int:
    return _STREAMS.index(stream) if stream else -1
