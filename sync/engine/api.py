"""The API as one shop sees it: pages of a stream, under the shop's lease, token and pace."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import structlog

from sync.clock import ApiClock
from sync.engine.tokens import TokenSource
from sync.errors import CipherError, NeedsReauthError, RequestError, ScopeError, TokenError
from sync.model import Page, Shop
from sync.store.leases import Lease
from sync.store.tokens import Credential
from sync.streams.base import Body, Stream
from sync.tiktok.apps import ConnectedApp
from sync.tiktok.client import Access, Answer, Call
from sync.tiktok.envelope import read_aside, read_page
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import read_shops
from sync.tiktok.turn import PLAIN, Priority

log = structlog.get_logger(__name__)

# How often an answer that makes no page is asked for anew before the slice is left for later.
_READINGS = 3
_LONGEST_WAIT_S = 1.0
_CLOCK_LOOKS = 6
# Tokens may expire or be replaced while a request is on its way, and where they live for seconds, again.
_SENDINGS = 6
_LIST_SHOPS = Call("GET", "/authorization/202309/shops")
NoteCipher = Callable[[str, str], Awaitable[None]]
# Good answers take seconds at the most; without one for so long nothing is gained by others waiting.
_STALLED_S = 10.0


class ShopApi:
    """Asks for pages of one shop while its lease is held."""

    def __init__(
        self,
        shop: Shop,
        *,
        app: ConnectedApp,
        tokens: TokenSource,
        pacer: Pacer,
        lease: Lease,
        note_cipher: NoteCipher | None = None,
    ) -> None:
        self._shop = shop
        self._cipher = shop.cipher
        self._renewing = asyncio.Lock()
        # Told of a new cipher, so that the next sync begins with it.
        self._note_cipher = note_cipher
        self._app = app
        self._tokens = tokens
        self.pacer = pacer
        self._lease = lease
        self._asking = 0
        self._heard_at = time.monotonic()

    @property
    def is_stalled(self) -> bool:
        """True while something is asked, and no good answer has come for long."""
        return self._asking > 0 and time.monotonic() - self._heard_at > _STALLED_S

    @property
    def clock(self) -> ApiClock:
        return self._app.client.clock

    async def learn_clock(self) -> None:
        """TikTok's clock is known: nothing is planned by a local clock that may be wrong.

        Raises RequestError when no two answers agree on the time.
        """
        for _ in range(_CLOCK_LOOKS):
            await self._send(_LIST_SHOPS, needs_cipher=False)
            if not self.clock.is_in_doubt:
                return
        raise RequestError(
            "TikTok Shop's answers name times that do not agree, neither with each other nor with this "
            "machine's clock; it is tried again later"
        )

    async def ask(self, call: Call) -> bytes:
        """The data of the answer to a single call on the shop's behalf."""
        return (await self._send(call)).data

    async def check_consent(self) -> None:
        """The seller's consent stands and reaches the shop; raises NeedsReauthError when TikTok denies it."""
        answer = await self._send(_LIST_SHOPS, needs_cipher=False)
        shops = read_page(answer.data, records="shops", key="id", fetched_at=answer.sent_at).records
        # An empty list may be a slip of the API's; a list of other shops is none.
        if shops and self._shop.shop_id not in {shop.key for shop in shops}:
            raise NeedsReauthError(
                "The seller's consent does not reach this shop any more. Run `shopsync shops connect`"
            )

    async def fetch(
        self, stream: Stream, body: Body | None, *, page_token: str | None = None, is_live: bool = False
    ) -> tuple[Page, int]:
        """The page and the requests it took. Raises the error of the scope that gives up.

        What is live is asked for before any history, of whatever stream.
        """
        query = dict(stream.query)
        if stream.page_size is not None:
            query["page_size"] = str(stream.page_size)
        if page_token is not None:
            query["page_token"] = page_token
        call = Call(
            stream.method,
            stream.path,
            query=query,
            body=None if stream.method == "GET" else msgspec.json.encode(body or {}),
        )
        requests = 0
        for readings_left in reversed(range(_READINGS)):
            try:
                answer = await self._send(call, priority=Priority(stream.name, is_live))
            except ScopeError as error:
                raise ScopeError(f"{stream.name} needs the scope {stream.scope}. {error}") from error
            requests += answer.attempts
            try:
                page = await read_aside(partial(_read, stream, answer), size=len(answer.data))
                return page, requests
            except RequestError as error:
                if not readings_left:
                    raise
                # One bad answer must not cost the window all that it has proven.
                log.info("answer_unreadable", shop_id=self._shop.shop_id, path=call.path, reason=str(error))
                await asyncio.sleep(random.uniform(0, _LONGEST_WAIT_S))
        raise AssertionError("unreachable: the last reading returns or raises")

    async def _send(self, call: Call, *, needs_cipher: bool = True, priority: Priority = PLAIN) -> Answer:
        if not self._asking:
            self._heard_at = time.monotonic()
        self._asking += 1
        try:
            answer = await self._send_with_token(call, needs_cipher=needs_cipher, priority=priority)
            self._heard_at = time.monotonic()
            return answer
        finally:
            self._asking -= 1

    async def _send_with_token(self, call: Call, *, needs_cipher: bool, priority: Priority) -> Answer:
        credential_id = self._shop.credential_id
        is_fresh = False
        with self._tokens.kept(credential_id):
            for _ in range(_SENDINGS):
                used = await self._tokens.current(credential_id)
                cipher = self._cipher

                def newest_token() -> str:
                    nonlocal used
                    used = self._tokens.newest(credential_id)
                    return used.access_token

                access = Access(
                    keys=self._app.keys,
                    token=newest_token,
                    cipher=cipher if needs_cipher else None,
                    shop_id=self._shop.shop_id,
                )
                try:
                    return await self._app.client.send(
                        call, access, pacer=self.pacer, guard=self._lease.check, priority=priority
                    )
                except CipherError:
                    if not needs_cipher or not await self._has_new_cipher(refused=cipher):
                        raise
                except TokenError as error:
                    if is_fresh and await self._is_in_force(used):
                        raise NeedsReauthError(
                            f"{error} A fresh token was refused too: the seller has withdrawn the consent. "
                            "Run `shopsync shops connect`"
                        ) from error
                    await self._tokens.renew(credential_id, seen=used.generation)
                    is_fresh = True
        raise RequestError(
            f"TikTok Shop refused {_SENDINGS} tokens that were replaced on the way; it is tried again later"
        )

    async def _has_new_cipher(self, *, refused: str) -> bool:
        """True when the shop goes by another cipher by now; TikTok is asked once for all who wait."""
        async with self._renewing:
            if self._cipher != refused:
                return True
            answer = await self._send(_LIST_SHOPS, needs_cipher=False)
            named = {shop.shop_id: shop.cipher for shop in read_shops(answer.data)}
            self._cipher = named.get(self._shop.shop_id) or refused
            if self._cipher == refused:
                return False
            log.info("shop_cipher_renewed", shop_id=self._shop.shop_id)
            if self._note_cipher is not None:
                await self._note_cipher(self._shop.shop_id, self._cipher)
            return True

    async def _is_in_force(self, used: Credential) -> bool:
        """False when the token was refused for its age, or because another one had taken its place."""
        if used.access_expires_at <= self.clock.now():
            return False
        return await self._tokens.is_newest(used)


def _read(stream: Stream, answer: Answer) -> Page:
    if answer.data == b"null":
        # Read as an empty page it would close the slice with nothing in it.
        raise RequestError(
            f"TikTok Shop answered {stream.path} with success and no data; it is asked again later"
        )
    return read_page(answer.data, records=stream.records, key=stream.key, fetched_at=answer.sent_at)
