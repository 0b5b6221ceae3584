"""Access tokens that are valid when they are needed, refreshed once however many ask."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import structlog

from sync import metrics
from sync.engine.refresher_line import RefresherLine
from sync.errors import NeedsReauthError, RequestError, SyncError
from sync.store.tokens import Credential, Credentials
from sync.tiktok.apps import Apps

log = structlog.get_logger(__name__)

_COOL_DOWN_S = 60.0
# Longer than a token call usually may take; the refresher needs nobody to end one that takes longer.
_DRAIN_S = 12.0
_SOONEST_S = 0.1


class TokenSource:
    """Hands out the tokens of every seller."""

    def __init__(self, credentials: Credentials, apps: Apps, refresher: RefresherLine) -> None:
        self._credentials = credentials
        self._apps = apps
        self._refresher = refresher
        self._known: dict[int, Credential] = {}
        self._outdated: set[int] = set()
        self._refreshing: dict[int, asyncio.Task[Credential]] = {}
        self._quiet_until: dict[int, float] = {}
        self._users: Counter[int] = Counter()
        self._alarms: dict[int, asyncio.TimerHandle] = {}
        self._early: set[asyncio.Task[None]] = set()

    async def current(self, credential_id: int) -> Credential:
        """Tokens that work as far as is known. They are refreshed at half of their life.

        Raises NeedsReauthError when only a new consent helps.
        """
        credential = self._known.get(credential_id)
        if credential is None or credential_id in self._outdated:
            credential = self._note(await self._credentials.read(credential_id))
        now = self._now(credential)
        is_quiet = time.monotonic() < self._quiet_until.get(credential_id, 0.0)
        if now >= _half_life(credential) and (now >= credential.access_expires_at or not is_quiet):
            try:
                credential = await self.renew(credential_id, seen=credential.generation)
            except RequestError as error:
                if now >= credential.access_expires_at:
                    raise
                # Half of its life is left: time enough for the token endpoint to come back, and no
                # reason to ask it before each request.
                self._quiet_until[credential_id] = time.monotonic() + _COOL_DOWN_S
                log.warning("token_refresh_postponed", credential_id=credential_id, reason=str(error))
        self._set_alarm(credential)
        return credential

    def newest(self, credential_id: int) -> Credential:
        """The newest tokens that are known, without asking anybody; ``current`` was asked before."""
        return self._known[credential_id]

    async def is_newest(self, credential: Credential) -> bool:
        """True when no newer tokens are stored."""
        stored = await self._credentials.read(credential.credential_id)
        return stored.generation == credential.generation

    @contextmanager
    def kept(self, credential_id: int) -> Iterator[None]:
        """For as long as the block runs, what ``newest`` gives is refreshed at half of its life.

        A request may wait for its turn longer than a token lives, and nobody asks for tokens meanwhile.
        """
        self._users[credential_id] += 1
        try:
            yield
        finally:
            self._users[credential_id] -= 1
            if not self._users[credential_id]:
                del self._users[credential_id]
                if alarm := self._alarms.pop(credential_id, None):
                    alarm.cancel()

    async def renew(self, credential_id: int, *, seen: int) -> Credential:
        """Tokens newer than the generation that was seen to fail; one refresh for all who ask."""
        task = self._refreshing.get(credential_id)
        if task is None:
            task = asyncio.create_task(self._renew(credential_id, seen), name="token refresh")
            self._refreshing[credential_id] = task
            task.add_done_callback(lambda ended: self._end_refresh(credential_id, ended))
        # Shielded: others wait for it too.
        return await asyncio.shield(task)

    def forget(self, credential_id: int) -> None:
        """What is stored is read again: a new consent may have replaced it."""
        self._outdated.add(credential_id)

    async def drain(self) -> None:
        """Refreshes under way have ended, or had their time; called before the connections close."""
        give_up_at = time.monotonic() + _DRAIN_S
        if self._refreshing:
            await asyncio.wait(self._refreshing.values(), timeout=_DRAIN_S)
        await self._refresher.close(within_s=max(1.0, give_up_at - time.monotonic()))

    def _end_refresh(self, credential_id: int, task: asyncio.Task[Credential]) -> None:
        self._refreshing.pop(credential_id, None)
        if not task.cancelled():
            task.exception()  # Seen: whoever asked may have been cancelled and not hear of it.

    async def _renew(self, credential_id: int, seen: int) -> Credential:
        try:
            stored = await self._credentials.read(credential_id)
            if stored.generation == seen and stored.needs_reauth is None:
                if await self._refresher.refresh(credential_id, seen=seen):
                    metrics.REFRESHES.labels("ok").inc()
                stored = await self._credentials.read(credential_id)
            return self._note(stored)
        except NeedsReauthError:
            metrics.REFRESHES.labels("refused").inc()
            self.forget(credential_id)
            raise

    def _note(self, credential: Credential) -> Credential:
        """They are the newest that are known. Raises NeedsReauthError when they are dead."""
        if credential.needs_reauth is not None:
            # Not remembered: a new consent may come by way of another process.
            self.forget(credential.credential_id)
            raise NeedsReauthError(credential.needs_reauth)
        self._known[credential.credential_id] = credential
        self._outdated.discard(credential.credential_id)
        return credential

    def _set_alarm(self, credential: Credential) -> None:
        """While somebody waits with these tokens, half of their life does not pass unnoticed."""
        credential_id = credential.credential_id
        if credential_id in self._alarms or not self._users[credential_id]:
            return
        left_s = (_half_life(credential) - self._now(credential)).total_seconds()
        quiet_s = self._quiet_until.get(credential_id, 0.0) - time.monotonic()
        wait_s = max(left_s, quiet_s, _SOONEST_S)
        loop = asyncio.get_running_loop()
        self._alarms[credential_id] = loop.call_later(wait_s, self._refresh_early, credential_id)

    def _refresh_early(self, credential_id: int) -> None:
        del self._alarms[credential_id]
        task = asyncio.create_task(self._look_again(credential_id), name="token refresh in time")
        self._early.add(task)
        task.add_done_callback(self._early.discard)

    async def _look_again(self, credential_id: int) -> None:
        with suppress(SyncError):  # Whoever waits with these tokens will hear of it.
            await self.current(credential_id)

    def _now(self, credential: Credential) -> datetime:
        return self._apps.get(credential.app).client.clock.now()


def _half_life(credential: Credential) -> datetime:
    return credential.obtained_at + (credential.access_expires_at - credential.obtained_at) / 2
