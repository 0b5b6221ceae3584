"""Access tokens that are valid when they are needed, refreshed once however many ask."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import datetime

import structlog

from sync import metrics
from sync.errors import NeedsReauthError, RequestError
from sync.model import Tokens
from sync.store.shops import Credential, Shops
from sync.tiktok.apps import Apps
from sync.tiktok.oauth import refresh_tokens

log = structlog.get_logger(__name__)

_COOL_DOWN_S = 60.0
# Longer than a token call may take, with a moment in which one may still begin.
_DRAIN_S = 12.0
_LAST_BEGIN_S = 1.0


class TokenSource:
    """Hands out the tokens of every seller."""

    def __init__(self, shops: Shops, apps: Apps) -> None:
        self._shops = shops
        self._apps = apps
        self._known: dict[int, Credential] = {}
        self._refreshing: dict[int, asyncio.Task[Credential]] = {}
        self._quiet_until: dict[int, float] = {}
        self._may_begin_until = math.inf

    async def current(self, credential_id: int) -> Credential:
        """Tokens that work as far as is known. They are refreshed at half of their life.

        Raises NeedsReauthError when only a new consent helps.
        """
        credential = self._known.get(credential_id)
        if credential is None:
            credential = await self._shops.read_credential(credential_id)
        if credential.needs_reauth is not None:
            # Not remembered: a new consent may come by way of another process.
            raise NeedsReauthError(credential.needs_reauth)
        self._known[credential_id] = credential
        now = self._apps.get(credential.app).client.clock.now()
        is_quiet = time.monotonic() < self._quiet_until.get(credential_id, 0.0)
        if now >= _half_life(credential) and (now >= credential.access_expires_at or not is_quiet):
            try:
                return await self.renew(credential_id, seen=credential.generation)
            except RequestError as error:
                if now >= credential.access_expires_at:
                    raise
                # Half of its life is left: time enough for the token endpoint to come back, and no
                # reason to ask it before each request.
                self._quiet_until[credential_id] = time.monotonic() + _COOL_DOWN_S
                log.warning("token_refresh_postponed", credential_id=credential_id, reason=str(error))
        return credential

    async def renew(self, credential_id: int, *, seen: int) -> Credential:
        """Tokens newer than the generation that was seen to fail; one refresh for all who ask."""
        task = self._refreshing.get(credential_id)
        if task is None:
            task = asyncio.create_task(self._renew(credential_id, seen), name="token refresh")
            self._refreshing[credential_id] = task
            task.add_done_callback(lambda ended: self._end_refresh(credential_id, ended))
        # Shielded: a caller that is cancelled must not lose the pair that is on its way.
        return await asyncio.shield(task)

    def forget(self, credential_id: int) -> None:
        """What is stored is read again: a new consent may have replaced it."""
        self._known.pop(credential_id, None)

    async def drain(self) -> None:
        """Refreshes under way have ended, or had their time; called before the connections close."""
        self._may_begin_until = time.monotonic() + _LAST_BEGIN_S
        if self._refreshing:
            await asyncio.wait(self._refreshing.values(), timeout=_DRAIN_S)

    def _end_refresh(self, credential_id: int, task: asyncio.Task[Credential]) -> None:
        self._refreshing.pop(credential_id, None)
        if not task.cancelled():
            task.exception()  # Seen: whoever asked may have been cancelled and not hear of it.

    async def _renew(self, credential_id: int, seen: int) -> Credential:
        try:
            credential = await self._shops.refresh(credential_id, seen=seen, refresh=self._ask)
        except NeedsReauthError as error:
            metrics.REFRESHES.labels("refused").inc()
            self._known.pop(credential_id, None)
            await self._shops.condemn(credential_id, str(error), seen=seen)
            log.error("consent_needed", credential_id=credential_id, reason=str(error))
            raise
        self._known[credential_id] = credential
        return credential

    async def _ask(self, credential: Credential) -> Tokens:
        if time.monotonic() > self._may_begin_until:
            # It waited for its turn, and would be cut short with the new pair on its way.
            raise RequestError("the tokens are not refreshed any more: this process is ending")
        app = self._apps.get(credential.app)
        try:
            tokens = await refresh_tokens(app.client, app.keys, credential.refresh_token)
        except NeedsReauthError:
            if credential.previous_refresh_token is None:
                raise
            # The newest may never have taken effect at TikTok.
            tokens = await refresh_tokens(app.client, app.keys, credential.previous_refresh_token)
        metrics.REFRESHES.labels("ok").inc()
        log.info("token_refreshed", credential_id=credential.credential_id)
        return tokens


def _half_life(credential: Credential) -> datetime:
    return credential.obtained_at + (credential.access_expires_at - credential.obtained_at) / 2
