"""Signed requests for the peers, which know `requests` and have no settings of ours."""

from __future__ import annotations

import json
import os
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from sync.tiktok.signing import sign_request

PATH = "/order/202309/orders/search"
URL = os.environ.get("PEER_URL", "")
# Orders updated from then on, in epoch seconds.
SINCE = int(os.environ.get("PEER_SINCE", "0"))
# What each shop is reached with: shop_id, cipher and token.
SHOPS: list[dict[str, str]] = json.loads(os.environ.get("PEER_SHOPS", "[]"))
_TOKENS = {shop["cipher"]: shop["token"] for shop in SHOPS}
_QUERY = {
    "app_key": os.environ.get("PEER_APP_KEY", ""),
    "page_size": "100",
    "sort_field": "update_time",
    "sort_order": "ASC",
}


def query_of(shop: dict[str, str]) -> dict[str, str]:
    """The query of a shop's first page, without the signature."""
    return _QUERY | {"shop_cipher": shop["cipher"]}


def sign(request: Any) -> Any:
    """The prepared request of `requests` carries the time, the signature and the token."""
    parts = urlsplit(request.url)
    query = dict(parse_qsl(parts.query)) | {"timestamp": str(int(time.time()))}
    body = request.body or b""
    query["sign"] = sign_request(
        parts.path,
        query,
        app_secret=os.environ["PEER_APP_SECRET"],
        body=body.encode() if isinstance(body, str) else body,
    )
    request.url = urlunsplit(parts._replace(query=urlencode(query)))
    request.headers["x-tts-access-token"] = _TOKENS[query["shop_cipher"]]
    return request
