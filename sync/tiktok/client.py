"""Requests to TikTok Shop: signed, paced, retried, bounded, and with no secret in any error text."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial

import aiohttp
import structlog
from yarl import URL

from sync import metrics
from sync.clock import ApiClock
from sync.errors import ClockSkewError, RateLimitedError, RequestError, SyncError
from sync.tiktok.codes import SUCCESS, classify
from sync.tiktok.envelope import Envelope, read_aside, read_envelope
from sync.tiktok.limiter import LONGEST_PAUSE_S, Pacer
from sync.tiktok.signing import sign_request
from sync.tiktok.turn import PLAIN, TURN, Priority, Turn, TurnConnector

log = structlog.get_logger(__name__)

_ATTEMPTS = 6
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 20.0
_MAX_BODY_BYTES = 64 * 1024 * 1024
_FIRST_YEAR, _LAST_YEAR = 2000, 2200
# No total here: waiting for the pacer is no fault of the server. Turn bounds the rest.
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=5, sock_read=30)
_ANSWER_S = 60.0
_TOKEN_S = 10.0


@dataclass(frozen=True, slots=True)
class AppKeys:
    """What identifies one app to TikTok."""

    app_key: str
    app_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, before it is signed. A body is sent as it is: the signature covers its bytes."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """On whose behalf a call is made. A token that is a function is asked for when the request leaves."""

    keys: AppKeys
    token: str | Callable[[], str] = field(repr=False)
    cipher: str | None = field(default=None, repr=False)
    shop_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its ``data``, and when its last request was sent by TikTok's clock."""

    data: bytes
    sent_at: datetime
    attempts: int


class Client:
    """One HTTP session to the API and the token endpoint. Use as an async context manager."""

    def __init__(self, *, api_url: str, auth_url: str, clock: ApiClock) -> None:
        self._api_url = URL(api_url)
        self._auth_url = URL(auth_url)
        self.clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            # No limit of its own: pacers and slices bound what is in flight, and a connection
            # that is waited for after the pacer's turn would bunch requests up.
            connector=TurnConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            trust_env=False,
            read_bufsize=2**20,
            headers={"Accept-Encoding": "gzip", "User-Agent": "shopsync"},
        )
        # aiohttp sends idempotent requests again on a dead connection, past the pacer. There is
        # no public switch; a test counts the requests at the server.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        call: Call,
        access: Access,
        *,
        pacer: Pacer,
        guard: Callable[[], None] | None = None,
        priority: Priority = PLAIN,
    ) -> Answer:
        """The answer's data. Raises the error class of the scope that TikTok's code stands for.

        Requests that may succeed when repeated are repeated, each through the pacer. ``guard`` is
        called before each leaves, after the wait for its turn, and may raise.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                turn = Turn(
                    pacer,
                    guard,
                    clock=self.clock,
                    answer_s=_ANSWER_S,
                    priority=priority,
                    sign=partial(self._sign, call, access),
                )
                data = await self._send_once(call, turn)
            except RequestError as error:
                metrics.REQUESTS.labels(access.shop_id, type(error).__name__).inc()
                if isinstance(error, RateLimitedError):
                    pacer.slow_down(error.retry_after_s, left_at=turn.sent)
                    metrics.PACE.labels(access.shop_id).set(pacer.rate)
                if attempt == _ATTEMPTS:
                    raise
                log.info(
                    "request_retried",
                    shop_id=access.shop_id,
                    path=call.path,
                    attempt=attempt,
                    reason=str(error),
                )
                await asyncio.sleep(_wait_s(attempt, error))
            except SyncError as error:
                metrics.REQUESTS.labels(access.shop_id, type(error).__name__).inc()
                raise
            else:
                pacer.note_success(left_at=turn.sent)
                metrics.REQUESTS.labels(access.shop_id, "ok").inc()
                return Answer(data=data, sent_at=turn.sent_at, attempts=attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def ask_token(self, path: str, query: Mapping[str, str]) -> bytes:
        """The data of a token endpoint's answer. Unsigned; the query is made of secrets."""
        url = self._auth_url.joinpath(path.lstrip("/")).with_query(query)
        envelope = await self._exchange("GET", url, Turn(None, None, clock=self.clock, answer_s=_TOKEN_S))
        return bytes(envelope.data)

    async def _send_once(self, call: Call, turn: Turn) -> bytes:
        headers = {"content-type": "application/json"}
        url = self._api_url.joinpath(call.path.lstrip("/"))
        envelope = await self._exchange(call.method, url, turn, headers=headers, body=call.body)
        return bytes(envelope.data)

    def _sign(self, call: Call, access: Access, request: aiohttp.ClientRequest) -> None:
        timestamp = str(int(self.clock.time()))
        query = {**call.query, "app_key": access.keys.app_key, "timestamp": timestamp}
        if access.cipher is not None:
            query["shop_cipher"] = access.cipher
        query["sign"] = sign_request(
            call.path, query, app_secret=access.keys.app_secret, body=call.body or b""
        )
        request.url = request.url.with_query(query)
        token = access.token if isinstance(access.token, str) else access.token()
        request.headers["x-tts-access-token"] = token

    async def _exchange(
        self,
        method: str,
        url: URL,
        turn: Turn,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Envelope:
        if self._session is None:
            raise RuntimeError("the client is used outside of its async context")
        TURN.set(turn)
        try:
            async with (
                turn.deadline,
                self._session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                ) as response,
            ):
                content = await _read_bounded(response)
                status, answer_headers = response.status, response.headers
        # `from None`: aiohttp's texts hold the URL, and with it tokens and signatures.
        except TimeoutError:
            raise RequestError(f"{url.host} did not answer {url.path} in time") from None
        except aiohttp.ClientSSLError as error:
            raise RequestError(
                f"{url.host}:{url.port} does not prove who it is ({_describe_tls(error)}). Nothing was sent. "
                "Check this machine's clock and certificates, and whether a proxy stands in between"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise RequestError(
                f"{url.host}:{url.port} cannot be reached: {error.strerror}. Check the network, or the "
                "addresses in SHOPSYNC_API_URL and SHOPSYNC_AUTH_URL"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RequestError(f"the answer of {url.path} was cut off ({type(error).__name__})") from None
        received = time.monotonic()
        metrics.REQUEST_SECONDS.observe(received - turn.sent)
        try:
            envelope = await read_aside(
                partial(_open, content, status, answer_headers, now=self.clock.time()), size=len(content)
            )
        except ClockSkewError:
            self._learn_clock(answer_headers.get("Date"), sent=turn.sent, received=received)
            raise
        # Only what is certainly TikTok's own answer may set the clock.
        self._learn_clock(answer_headers.get("Date"), sent=turn.sent, received=received)
        return envelope

    def _learn_clock(self, date_header: str | None, *, sent: float, received: float) -> None:
        try:
            date = parsedate_to_datetime(date_header or "")
        except (ValueError, OverflowError):
            return
        # Beyond these years nothing can be planned any more, and no answer would ever put it right.
        if _FIRST_YEAR <= date.year <= _LAST_YEAR:
            self.clock.learn(date, sent=sent, received=received)


def _describe_tls(error: aiohttp.ClientSSLError) -> str:
    cause = getattr(error, "certificate_error", error)
    return str(getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or "no TLS")


def _open(content: bytes, status: int, headers: Mapping[str, str], *, now: float) -> Envelope:
    retry_after_s = read_retry_after(headers.get("Retry-After"), now=now)
    try:
        envelope = read_envelope(content)
    except RequestError as error:
        raise classify(status=status, code=None, message=str(error), retry_after_s=retry_after_s) from None
    if envelope.code != SUCCESS or status >= 300:
        message = f"{envelope.message} (request {envelope.request_id or 'unknown'})"
        raise classify(status=status, code=envelope.code, message=message, retry_after_s=retry_after_s)
    return envelope


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """The decompressed body; raises RequestError over the size that any page can have."""
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise RequestError(f"the answer is larger than {_MAX_BODY_BYTES >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def read_retry_after(header: str | None, *, now: float) -> float | None:
    """Seconds to wait, from either form of the header; None when it says nothing usable.

    ``now`` is the server's clock, in seconds since 1970.
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        pass
    else:
        return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_PAUSE_S)
    try:
        seconds = parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_S)


def _wait_s(attempt: int, error: RequestError) -> float:
    if isinstance(error, (RateLimitedError, ClockSkewError)):
        return 0.0  # The pacer waits for all; a fresh timestamp needs no wait.
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
    return random.uniform(0, longest)
