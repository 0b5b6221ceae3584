"""Questions that need no seller: does the host answer, what time is it there, does it know the app."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import aiohttp

from sync.errors import NeedsReauthError, RequestError
from sync.tiktok.client import AppKeys, Client

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MADE_UP_TOKEN = "made-up-by-shopsync-doctor"


async def clock_ahead_s(url: str) -> float | None:
    """Seconds by which this machine's clock is ahead of the host's; None when it does not tell the time.

    Raises RequestError when the host does not answer. The answer itself is a refusal, since nothing
    that identifies anybody is sent.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            here = time.time()
            header = response.headers.get("Date")
    except aiohttp.ClientConnectorError as error:
        raise RequestError(f"{url} cannot be reached: {error.strerror or error.os_error}") from None
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise RequestError(f"{url} does not answer ({type(error).__name__})") from None
    try:
        # +0.5 s: the header is cut to whole seconds.
        return here - parsedate_to_datetime(header or "").timestamp() - 0.5
    except (ValueError, OverflowError):
        return None


async def prove_keys(client: Client, keys: AppKeys) -> None:
    """Returns when TikTok Shop knows the app by this key and secret.

    Asked by refreshing a token that nobody has: who is refused for the token has passed as an app.
    Raises AppError for a refused app, another SyncError when the answer proves nothing.
    """
    try:
        await client.ask_token(
            "/api/v2/token/refresh",
            {
                "app_key": keys.app_key,
                "app_secret": keys.app_secret,
                "refresh_token": _MADE_UP_TOKEN,
                "grant_type": "refresh_token",
            },
        )
    except NeedsReauthError:
        return
