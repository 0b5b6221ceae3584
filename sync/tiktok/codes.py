"""From TikTok's answer to our error class: the code decides, the message where one code has many
meanings, and the HTTP status only when there is no code.

Source: the Partner Center page "Common errors" and the endpoints' own tables.
"""

from __future__ import annotations

from sync.errors import (
    AppError,
    BadRequestError,
    CipherError,
    ClockSkewError,
    NeedsReauthError,
    PageTokenError,
    RateLimitedError,
    RequestError,
    ScopeError,
    ShopError,
    SliceTooBigError,
    StreamError,
    SyncError,
    TokenError,
)

SUCCESS = 0
RATE_LIMITED = 36009002
SEVERAL_MEANINGS = 36009004
# A development shop may be asked only so often an hour; the next hour helps, a short wait does not.
HOURLY_CAP = 36009037
# Of a token that does not match the shop's cipher; some say so of a consent that was withdrawn.
CIPHER_REFUSED = 101000

_TRANSIENT = {36009003, 36009007, 25020008}
# The endpoints' own words for "failed to fetch" and "internal error".
# "10006402": documented as "permission denied" in 2025 and as "internal error" in 2026.
_TRANSIENT |= {10002014, 10002015, 10006402, 10037002, 10037003, 10037004, 12001000, 12052881, 33001002}
_TOKEN = {105001, 105002, 105003, 105004}
_RESULT_TOO_BIG = {12052180, 12019015, 12019120}
_NEEDS_REAUTH = {36004001, 36004005}
_INACTIVE = {36009043, 36009044, 12052700}


def classify(*, status: int, code: int | None, message: str, retry_after_s: float | None = None) -> SyncError:
    """The error that an answer other than success stands for."""
    if code is None or code == SUCCESS:
        return _classify_status(status, message, retry_after_s)
    text = f"TikTok Shop answered {code}: {message}"
    if code == RATE_LIMITED or (status == 429 and code != HOURLY_CAP):
        return RateLimitedError(text, retry_after_s=retry_after_s, code=code)
    if code in _TRANSIENT:
        return RequestError(text, code=code)
    if code == SEVERAL_MEANINGS:
        return _classify_message(text, message, code)
    error = _classify_code(code, text)
    # A code that nobody has documented says less than the status of a broken server.
    if status >= 500 and isinstance(error, BadRequestError):
        return RequestError(text, code=code)
    return error


def _classify_code(code: int, text: str) -> SyncError:
    if code in _TOKEN:
        return TokenError(text)
    if code in _RESULT_TOO_BIG:
        return SliceTooBigError(text)
    if code in _NEEDS_REAUTH or code == CIPHER_REFUSED:
        kind = CipherError if code == CIPHER_REFUSED else NeedsReauthError
        return kind(f"The seller must consent again: run `shopsync shops connect` ({text})")
    if code in _INACTIVE:
        return ShopError(f"The shop is not active at TikTok; it is tried again once a day ({text})")
    if code == 105005:
        return ScopeError(
            f"Switch the scope on in Partner Center > Manage API, then let the seller consent again ({text})"
        )
    if code == 106001:
        return AppError(
            f"The signature is refused: check that SHOPSYNC_APP_SECRET belongs to SHOPSYNC_APP_KEY ({text})"
        )
    if code == 98001006:
        return AppError(
            f"SHOPSYNC_APP_KEY and SHOPSYNC_APP_SECRET must be of the same app: copy both anew ({text})"
        )
    if code == 36009033:
        return AppError(f"Add this machine's address to the app's IP allow list in Partner Center ({text})")
    if code == HOURLY_CAP:
        return StreamError(f"A development shop's hourly cap is used up; it is read again next hour ({text})")
    if code in (36009009, 36009010, 36009014):
        return StreamError(f"This endpoint has changed: look for a newer version of shopsync ({text})")
    return BadRequestError(text, code=code)


def _classify_message(text: str, message: str, code: int) -> SyncError:
    lowered = message.lower()
    if "access_token" in lowered or "access-token" in lowered:
        return TokenError(text)
    if "invalid" in lowered and "shop_cipher" in lowered:
        return CipherError(f"The seller must consent again: run `shopsync shops connect` ({text})")
    if "timestamp" in lowered:
        return ClockSkewError(f"Check this machine's clock ({text})", code=code)
    if "app_key" in lowered:
        return AppError(f"Check SHOPSYNC_APP_KEY: it is shown in Partner Center > your app ({text})")
    if "page_token" in lowered or "page token" in lowered:
        return PageTokenError(text)
    return BadRequestError(text, code=code)


def _classify_status(status: int, message: str, retry_after_s: float | None) -> SyncError:
    text = f"TikTok Shop answered HTTP {status} without a code: {message}"
    if status == 429:
        return RateLimitedError(text, retry_after_s=retry_after_s)
    if status >= 500 or status < 300 or status in (408, 425):
        # Below 300: something that is not an envelope came back where one was promised.
        return RequestError(text)
    if 300 <= status < 400:
        return AppError(f"A redirect is never followed: check SHOPSYNC_API_URL ({text})")
    if status == 404:
        return AppError(f"Nothing answers there: check SHOPSYNC_API_URL and SHOPSYNC_AUTH_URL ({text})")
    return RequestError(text)
