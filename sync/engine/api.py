"""The API as one shop sees it: pages of a stream, under the shop's lease, token and pace."""

from __future__ import annotations

import asyncio
import random

import msgspec
import structlog

from sync.clock import ApiClock
from sync.engine.tokens import TokenSource
from sync.errors import NeedsReauthError, RequestError, TokenError
from sync.model import Page, Shop
from sync.store.leases import Lease
from sync.streams.base import Body, Stream
from sync.tiktok.apps import ConnectedApp
from sync.tiktok.client import Access, Answer, Call
from sync.tiktok.envelope import read_page
from sync.tiktok.limiter import Pacer
from sync.tiktok.turn import PLAIN, Priority

log = structlog.get_logger(__name__)

# How often an answer that makes no page is asked for anew before the slice is left for later.
_READINGS = 3
_LONGEST_WAIT_S = 1.0


class ShopApi:
    """Asks for pages of one shop while its lease is held."""

    def __init__(
        self, shop: Shop, *, app: ConnectedApp, tokens: TokenSource, pacer: Pacer, lease: Lease
    ) -> None:
        self._shop = shop
        self._app = app
        self._tokens = tokens
        self.pacer = pacer
        self._lease = lease

    @property
    def clock(self) -> ApiClock:
        return self._app.client.clock

    async def learn_clock(self) -> None:
        """TikTok's clock is known: nothing is planned by a local clock that may be wrong."""
        await self._send(Call("GET", "/authorization/202309/shops"), needs_cipher=False)

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
            answer = await self._send(call, priority=Priority(stream.name, is_live))
            requests += answer.attempts
            try:
                return _read(stream, answer), requests
            except RequestError as error:
                if not readings_left:
                    raise
                # One bad answer must not cost the window all that it has proven.
                log.info("answer_unreadable", shop_id=self._shop.shop_id, path=call.path, reason=str(error))
                await asyncio.sleep(random.uniform(0, _LONGEST_WAIT_S))
        raise AssertionError("unreachable: the last reading returns or raises")

    async def _send(self, call: Call, *, needs_cipher: bool = True, priority: Priority = PLAIN) -> Answer:
        credential = await self._tokens.current(self._shop.credential_id)
        try:
            return await self._send_with(call, credential.access_token, needs_cipher, priority)
        except TokenError:
            credential = await self._tokens.renew(self._shop.credential_id, seen=credential.generation)
        try:
            return await self._send_with(call, credential.access_token, needs_cipher, priority)
        except TokenError as error:
            raise NeedsReauthError(
                f"{error} A fresh token was refused too: the seller has withdrawn the consent. "
                "Run `shopsync shops connect`"
            ) from error

    async def _send_with(
        self, call: Call, access_token: str, needs_cipher: bool, priority: Priority
    ) -> Answer:
        access = Access(
            keys=self._app.keys,
            token=access_token,
            cipher=self._shop.cipher if needs_cipher else None,
            shop_id=self._shop.shop_id,
        )
        return await self._app.client.send(
            call, access, pacer=self.pacer, guard=self._lease.check, priority=priority
        )


def _read(stream: Stream, answer: Answer) -> Page:
    if answer.data == b"null":
        # Read as an empty page it would close the slice with nothing in it.
        raise RequestError(
            f"TikTok Shop answered {stream.path} with success and no data; it is asked again later"
        )
    return read_page(answer.data, records=stream.records, key=stream.key, fetched_at=answer.sent_at)
