"""One slice of any kind, from its first request to the transaction that closes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from sync.clock import utc_now
from sync.engine.api import ShopApi
from sync.engine.requests import StreamProgress
from sync.engine.slice_io import Account, SliceIO
from sync.engine.walk import Walk
from sync.engine.window_sync import WindowSync
from sync.errors import BadRequestError, SliceTooBigError
from sync.model import Batch, Slice, Whole, Window
from sync.store.leases import Lease
from sync.store.sink import Sink
from sync.streams.base import ParentKeys, Stream, TimeWindows

log = structlog.get_logger(__name__)


class SliceSync:
    """Reads slices of one stream of one shop into the tables.

    ``has_moved`` is called whenever a walk has gone on by a page.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        api: ShopApi,
        sink: Sink,
        lease: Lease,
        run_id: int,
        lookback_s: float,
        has_moved: Callable[[], None],
    ) -> None:
        self._io = SliceIO(stream, api=api, sink=sink, lease=lease, run_id=run_id)
        self._keys = stream.slicing if isinstance(stream.slicing, ParentKeys) else None
        self._windows: WindowSync | None = None
        if isinstance(stream.slicing, TimeWindows):
            self._windows = WindowSync(self._io, stream.slicing, lookback_s=lookback_s, has_moved=has_moved)

    @property
    def doubts(self) -> list[str]:
        """What TikTok counts and does not show, window by window."""
        return [] if self._windows is None else self._windows.doubts

    def split(self) -> tuple[Window, bool] | None:
        """A part of a window that is being read, taken from its walk for another, and whether it is live.

        None when there is nothing to gain.
        """
        return None if self._windows is None else self._windows.split()

    async def wait_until_stored(self) -> None:
        """Returns when no page, of whatever shop, waits for the database."""
        await self._io.wait_until_stored()

    async def sync(
        self, slice_: Slice, progress: StreamProgress, *, is_root: bool, is_live: bool = False
    ) -> Sequence[Slice]:
        """The slices to read instead; none when this one is stored and closed.

        ``progress`` grows while it runs; a root slice also adds TikTok's first count of it to what
        is expected. Raises SliceError when the slice must be left for another time.
        """
        account = Account(started_at=utc_now(), progress=progress, is_root=is_root, is_live=is_live)
        try:
            if isinstance(slice_, Window):
                if self._windows is None:
                    raise TypeError(f"{self._io.stream.name} has no windows")
                return await self._windows.sync(slice_, account)
            if isinstance(slice_, Batch):
                return await self._sync_batch(slice_, account)
            await self._sync_whole(slice_, account)
        except BaseException:
            account.show(-account.shown)
            raise
        return ()

    async def _sync_batch(self, batch: Batch, account: Account) -> list[Batch]:
        if self._keys is None:
            raise TypeError(f"{self._io.stream.name} has no parent keys")
        walk = Walk()
        account.walks = 1
        try:
            page = await self._io.fetch(self._keys.body(batch.keys), account)
        except (BadRequestError, SliceTooBigError) as error:
            if len(batch.keys) > 1:
                # One key may spoil the answer for all: the halves find it.
                middle = len(batch.keys) // 2
                return [replace(batch, keys=keys) for keys in (batch.keys[:middle], batch.keys[middle:])]
            await self._io.refuse(batch.keys[0], reason=str(error))
            return []
        walk.take(page)
        account.show(len(walk.seen))
        account.keep(walk)
        await self._io.close(batch, page, account, verdict="whole")
        unanswered = tuple(key for key in batch.keys if key not in walk.seen)
        if unanswered and not batch.is_retry:
            # Perhaps gone since they were listed, perhaps left out by mistake: asking again tells.
            return [Batch(unanswered, is_retry=True)]
        if unanswered:
            log.info("keys_unanswered", stream=self._io.stream.name, keys=len(unanswered))
        return []

    async def _sync_whole(self, whole: Whole, account: Account) -> None:
        walk = Walk()
        account.walks = 1
        page = await self._io.fetch(None, account)
        walk.take(page)
        account.progress.expected += len(walk.seen)
        account.show(len(walk.seen))
        account.keep(walk)
        await self._io.close(whole, page, account, verdict="whole")
