"""Every way a sync can fail, named after the smallest scope that gives up.

request → record → slice → stream → shop → app → process. The client retries what a request may
survive; each wider class is caught in exactly one place, one level above its scope.
"""

from __future__ import annotations

from typing import Literal

ShopState = Literal["active", "paused", "needs_reauth", "inactive", "disconnected"]
ConsentFailure = Literal[
    "unknown", "used", "expired", "refused", "mixed_up", "foreign", "code", "shopless", "scopeless"
]


class SyncError(Exception):
    """Something failed; the message tells the reader what to do next."""


class RequestError(SyncError):
    """This attempt failed and the same request may be sent again."""

    def __init__(self, message: str, *, code: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class RateLimitedError(RequestError):
    """TikTok wants fewer requests; ``retry_after_s`` is its own wish, if it named one."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: int | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ClockSkewError(RequestError):
    """TikTok refused the timestamp; signing again with its clock may help."""


class TokenError(SyncError):
    """The access token is not accepted; a refreshed one may be."""


class SliceError(SyncError):
    """Leave this slice uncovered; the next run plans it again."""


class SliceTooBigError(SliceError):
    """The slice holds more than one walk should read, or than the API shows; read it in parts."""

    def __init__(self, message: str, *, total: int | None = None) -> None:
        super().__init__(message)
        self.total = total


class PageTokenError(SliceError):
    """TikTok no longer knows the page token; walk on from what is proven with a fresh first page."""


class BadRequestError(SliceError):
    """TikTok refuses the request's content; repeating it is useless."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class StreamError(SyncError):
    """Park this stream of this shop; its other streams go on."""


class ScopeError(StreamError):
    """The seller has not granted the scope that the stream needs."""


class ShopError(SyncError):
    """Park this shop; other shops go on. ``state`` is what the shop becomes."""

    state: ShopState = "inactive"


class NeedsReauthError(ShopError):
    """Only a new consent of the seller helps."""

    state: ShopState = "needs_reauth"


class CipherError(NeedsReauthError):
    """The shop's cipher is refused: it may have a new one, and if not, only a new consent helps."""


class ConsentError(NeedsReauthError):
    """This consent leads nowhere; it is begun again. ``why`` is one word of ConsentFailure."""

    def __init__(self, why: ConsentFailure, message: str) -> None:
        super().__init__(message)
        self.why: ConsentFailure = why


class FencedOutError(SyncError):
    """Another process owns the shop now: drop everything, write nothing."""


class AppError(SyncError):
    """TikTok refuses the app itself (key, secret, IP address): no shop of it can be read."""


class DatabaseError(SyncError):
    """Postgres cannot be reached or refuses the work; nothing was half written."""


class DatabaseGoneError(DatabaseError):
    """Postgres is out of reach or has no room left, for every shop alike."""


class DatabaseRefusedError(DatabaseError):
    """Postgres does not allow it; waiting alone will not help."""


class SettingsError(SyncError):
    """The settings or the command line are wrong; each line of the message names one fault."""


class PortTakenError(SettingsError):
    """Another program listens where this one should."""


class IncompleteError(SyncError):
    """The work ended, but not everything asked for is stored; the message says what is missing."""
