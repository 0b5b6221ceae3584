"""A word before a seller's consent ends: when it has ended, only a person can help."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from sync.errors import SyncError
from sync.store.tokens import Credentials

log = structlog.get_logger(__name__)

_EVERY_S = 3600.0


class ConsentWatch:
    """Warns of consents that end soon, once a day for each, however many daemons there are."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks once an hour until ``stopping`` is set."""
        while not stopping.is_set():
            try:
                await self.look()
            except SyncError as error:
                log.warning("consent_watch_failed", reason=str(error))
            except Exception:
                log.exception("consent_watch_crashed")  # The outermost loop of the watch.
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _EVERY_S)

    async def look(self) -> None:
        """Whoever reads the log knows which consents end soon."""
        for consent in await self._credentials.note_ending():
            log.warning(
                "consent_ends_soon",
                credential_id=consent.credential_id,
                app=consent.app,
                seller=consent.seller_name,
                shop_ids=consent.shop_ids,
                consent_ends_at=consent.ends_at.isoformat(),
            )
