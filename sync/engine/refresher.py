"""The process in which tokens are refreshed, so that the death of whoever asked for it loses nothing.

TikTok may kill the old refresh token the moment it hands out the new one. A process that is killed
between that answer and its commit would take the seller's consent with it. So a small child does it,
in a session of its own, deaf to signals: it ends what it has begun even when its parent is gone.
docs/decisions/0012-tokens-in-a-process-of-their-own.md has the rest.

It reads lines of JSON from stdin, first a Setup, then Orders, and answers each with a Reply.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from sync.errors import (
    AppError,
    DatabaseError,
    DatabaseGoneError,
    NeedsReauthError,
    RequestError,
    SettingsError,
    SyncError,
)
from sync.log import set_up_logging
from sync.model import Tokens
from sync.store.credentials import Vault
from sync.store.key_file import load_or_make_keys
from sync.store.pool import Database
from sync.store.tokens import Credential, Credentials, UnstoredError
from sync.tiktok.apps import AppAddress, Apps
from sync.tiktok.client import AppKeys
from sync.tiktok.oauth import refresh_tokens

log = structlog.get_logger(__name__)

_AT_ONCE = 8
_IDLE_S = 30.0
_HOLD_S = 1800.0
_STORE_AGAIN_S = 1.0
_LINE_BYTES = 2**20
# Errors that mean the same on the other side of the pipe, the narrowest first.
KINDS: dict[str, type[SyncError]] = {
    kind.__name__: kind
    for kind in (NeedsReauthError, AppError, SettingsError, DatabaseGoneError, DatabaseError, RequestError)
}


@dataclass(frozen=True, slots=True)
class AppSetup:
    """An app, and where it is known."""

    app_key: str
    app_secret: str = field(repr=False)
    api_url: str
    auth_url: str


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a refresher must know. The keys are in ``key_file`` where it is not empty."""

    database_url: str = field(repr=False)
    encryption_keys: list[bytes] = field(repr=False)
    key_file: str
    apps: dict[str, AppSetup]
    log_level: str
    log_format: str

    def open_vault(self) -> Vault:
        """The vault of these keys."""
        if not self.key_file:
            return Vault(self.encryption_keys)
        path = Path(self.key_file)
        return Vault(load_or_make_keys(path), reread=lambda: load_or_make_keys(path))

    def find_app(self, name: str) -> AppAddress:
        """The app of that name."""
        app = self.apps.get(name)
        if app is None:
            raise SettingsError(f"no app is called {name!r}: add [apps.{name}]")
        return AppAddress(AppKeys(app.app_key, app.app_secret), app.api_url, app.auth_url)


@dataclass(frozen=True, slots=True)
class Order:
    """The tokens are wanted newer than generation ``seen``."""

    number: int
    credential_id: int
    seen: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of the order of that number, or, without one, why there will be no answer to any."""

    number: int | None
    refreshed: bool = False
    error: str = ""
    message: str = ""


class Refresher:
    """Refreshes tokens for one parent."""

    def __init__(self, credentials: Credentials, apps: Apps, answer: Callable[[Reply], None]) -> None:
        self._credentials = credentials
        self._apps = apps
        self._answer = answer
        # So many sellers may hang before another one has to wait.
        self._seats = asyncio.Semaphore(_AT_ONCE)
        self._working: set[asyncio.Task[None]] = set()
        self._held: dict[int, asyncio.Task[None]] = {}
        self._is_ending = False

    async def run(self, orders: asyncio.StreamReader) -> None:
        """Returns when the parent is gone and what was begun is done, or after a while of idleness."""
        while True:
            try:
                line = await asyncio.wait_for(orders.readline(), _IDLE_S)
            except TimeoutError:
                if self._working or self._held:
                    continue
                return
            if not line:
                break
            task = asyncio.create_task(self._fulfil(msgspec.json.decode(line, type=Order)))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        self._is_ending = True
        while left := {*self._working, *self._held.values()}:
            await asyncio.wait(left)

    async def _fulfil(self, order: Order) -> None:
        try:
            self._answer(Reply(order.number, refreshed=await self._refresh(order)))
        except SyncError as error:
            self._answer(_refusal(error, order.number))
        except Exception:
            # The outermost loop of a refresh: a fault of ours must not stop the other sellers.
            log.exception("refresh_crashed", credential_id=order.credential_id)
            self._answer(_refusal(RequestError("the refresh failed: see refresh_crashed"), order.number))

    async def _refresh(self, order: Order) -> bool:
        credential_id = order.credential_id
        async with self._seats:
            if credential_id in self._held:
                raise DatabaseGoneError("the new tokens wait in memory until Postgres is in reach again")
            try:
                is_new = await self._credentials.refresh(credential_id, seen=order.seen, refresh=self._ask)
            except NeedsReauthError as error:
                await self._credentials.condemn(credential_id, str(error), seen=order.seen)
                log.error("consent_needed", credential_id=credential_id, reason=str(error))
                raise
            except UnstoredError as error:
                log.error("tokens_held", credential_id=credential_id, reason=str(error))
                self._held[credential_id] = asyncio.create_task(self._hold(credential_id, error.store))
                raise
        if is_new:
            log.info("token_refreshed", credential_id=credential_id)
        return is_new

    async def _ask(self, credential: Credential) -> Tokens:
        if self._is_ending:
            raise RequestError("the tokens are not refreshed any more: the process that asked has ended")
        app = self._apps.get(credential.app)
        try:
            return await refresh_tokens(app.client, app.keys, credential.refresh_token)
        except NeedsReauthError:
            if credential.previous_refresh_token is None:
                raise
            # The newest may never have taken effect at TikTok.
            return await refresh_tokens(app.client, app.keys, credential.previous_refresh_token)

    async def _hold(self, credential_id: int, store: Callable[[], Awaitable[None]]) -> None:
        """The pair is stored as soon as Postgres takes it."""
        give_up_at = time.monotonic() + _HOLD_S
        try:
            while time.monotonic() < give_up_at:
                await asyncio.sleep(_STORE_AGAIN_S)
                try:
                    await store()
                except SyncError:
                    continue
                log.info("token_refreshed", credential_id=credential_id)
                return
            log.error("tokens_lost", credential_id=credential_id)
        finally:
            del self._held[credential_id]


def _refusal(error: SyncError, number: int | None = None) -> Reply:
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), RequestError.__name__)
    return Reply(number, error=kind, message=str(error))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin.buffer)
    first = await orders.readline()
    if not first:
        return
    setup = msgspec.json.decode(first, type=Setup)
    set_up_logging(level=setup.log_level, log_format=setup.log_format)
    # Never waited for: a parent that stands still must not keep a row locked.
    replies, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)

    def answer(reply: Reply) -> None:
        if not replies.is_closing():
            replies.write(msgspec.json.encode(reply) + b"\n")

    try:
        async with (
            # One more than are refreshed at once: what was held, and what is condemned.
            Database(setup.database_url, size=_AT_ONCE + 1) as database,
            Apps(setup.apps, setup.find_app) as apps,
        ):
            await Refresher(Credentials(database, setup.open_vault()), apps, answer).run(orders)
    except SyncError as error:
        answer(_refusal(error))
    finally:
        replies.close()


def main() -> None:
    """Serves the parent on stdin and stdout; ends by itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
