"""Signatures of requests to TikTok Shop and of its notifications.

Source: the Partner Center guides "Sign your API request" and "Webhooks overview".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

_UNSIGNED = frozenset({"sign", "access_token"})


def sign_request(
    path: str, query: Mapping[str, str], *, app_secret: str, body: bytes = b"", multipart: bool = False
) -> str:
    """The lowercase hex HMAC-SHA256 that belongs into the query as ``sign``.

    ``path`` has no host and no query; ``query`` holds decoded values; ``body`` is the very
    bytes that are sent, and is left out of the signature of a multipart request.
    """
    pairs = "".join(key + query[key] for key in sorted(query) if key not in _UNSIGNED)
    secret = app_secret.encode()
    signed = secret + (path + pairs).encode() + (b"" if multipart else body) + secret
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()


def sign_notification(raw_body: bytes, *, app_key: str, app_secret: str) -> str:
    """The lowercase hex HMAC-SHA256 that TikTok puts into a notification's ``Authorization`` header."""
    return hmac.new(app_secret.encode(), app_key.encode() + raw_body, hashlib.sha256).hexdigest()
