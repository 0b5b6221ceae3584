"""Replies before they are sent: envelopes, and what every refusal of the API looks like."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

_encode = msgspec.json.encode

# Statuses that the documents or live observations give. What they leave open: the caller's mistakes
# are 400, doubts about who calls are 401, and an endpoint's own codes come with 200.
_STATUSES = {
    36009002: 429,
    36009003: 200,
    36009004: 400,
    36009007: 200,
    36009009: 404,
    36009010: 400,
    36009014: 400,
    36009022: 400,
    36009033: 401,
    36009037: 429,
    36009043: 401,
    36009044: 401,
    101000: 401,
    105002: 401,
    105005: 401,
    106001: 401,
    106013: 400,
}
_MESSAGES = {
    36009002: "Too many requests. You've made too many requests in a short period of time.",
    36009003: "Internal error. Please try again. If the problem persists, contact platform support.",
    36009007: "Request timeout. Please try again.",
    36009009: "Invalid path. Check the request path.",
    36009010: "Invalid method. Check the HTTP method of the request.",
    36009014: "The version name is invalid, please check and retry.",
    36009022: "Invalid request body format. The body must be a JSON object.",
    36009033: "The caller's IP address is not on the app's IP allow list.",
    36009037: "Too many requests. The development shop has used up its calls of this hour.",
    36009043: "The shop is inactive.",
    36009044: "The seller is inactive.",
    101000: "The access token does not match the shop_cipher, or belongs to the wrong type of user.",
    105002: "Expired credentials. The 'access_token' is expired, please refresh it.",
    105005: "Access denied. The access token lacks the scope of this API; the seller must authorize it.",
    106001: "Invalid signature. The 'sign' query parameter does not match the request.",
    106013: "Missing 'shop_cipher'. This API requires the shop_cipher of an authorized shop.",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, ready for the wire."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class RefusedError(Exception):
    """A request is answered with an API error code instead of data."""

    def __init__(
        self, code: int, message: str = "", *, status: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        self.code = code
        self.message = message or _MESSAGES.get(code, "Invalid request.")
        self.status = status or _STATUSES.get(code, 200)
        self.headers = headers or {}
        super().__init__(f"{code} {self.message}")


def frame(request_id: str) -> tuple[bytes, bytes]:
    """What the success envelope has before and after its data; keys are alphabetical, as in real bodies."""
    return b'{"code":0,"data":', b',"message":"Success","request_id":"%b"}' % request_id.encode()


def refuse(refused: RefusedError, request_id: str) -> Reply:
    """The failure envelope: a code, a message, and no data."""
    body = _encode(
        {"code": refused.code, "data": None, "message": refused.message, "request_id": request_id},
        order="sorted",
    )
    return Reply(body, refused.status, dict(refused.headers))


def invalid(name: str, why: str = "") -> RefusedError:
    """The refusal of one request parameter."""
    return RefusedError(36009004, f"invalid param '{name}'" + (f": {why}" if why else ""))
