"""Faults that answer in place of the API, before anything is looked up."""

from __future__ import annotations

from email.utils import formatdate

import msgspec

from sync.simulator.calls import Call
from sync.simulator.fault_registry import Params, answer_fault, mark_fault
from sync.simulator.replies import RefusedError, Reply, invalid

_HTML = b"<html><head><title>%d</title></head><body><h1>Service Temporarily Unavailable</h1></body></html>"


@answer_fault(retry_after=None, form="seconds", http=429)
def rate_limited(call: Call, params: Params) -> Reply:
    """36009002; retry_after with form seconds, date or garbage (text sent as it is); http 429 or 200."""
    headers = {}
    if params["retry_after"] is not None:
        value = params["retry_after"]
        headers["Retry-After"] = (
            formatdate(call.now + float(value), usegmt=True) if params["form"] == "date" else str(value)
        )
    raise RefusedError(36009002, status=int(params["http"]), headers=headers)


@answer_fault(http=200)
def internal_error(call: Call, params: Params) -> Reply:
    """36009003 with http 200 or 500."""
    raise RefusedError(36009003, status=int(params["http"]))


@answer_fault(http=503)
def unavailable_html(call: Call, params: Params) -> Reply:
    """An HTML page from the edge with http 502, 503 or 504."""
    return Reply(_HTML % int(params["http"]), int(params["http"]), content_type="text/html")


@answer_fault(http=200)
def empty_body(call: Call, params: Params) -> Reply:
    """No body at all, with http 200 or 204."""
    return Reply(b"", int(params["http"]))


@answer_fault()
def html_200(call: Call, params: Params) -> Reply:
    """An HTML page with status 200."""
    return Reply(b"<!doctype html><html><body>Please wait...</body></html>", content_type="text/html")


@answer_fault(text="[]")
def not_an_object(call: Call, params: Params) -> Reply:
    """JSON that is no object: the text given."""
    return Reply(str(params["text"]).encode())


@answer_fault()
def null_data(call: Call, params: Params) -> Reply:
    """Code 0 with data null."""
    body = {"code": 0, "data": None, "message": "Success", "request_id": call.request_id}
    return Reply(msgspec.json.encode(body))


@answer_fault(location="https://login.example/", http=302)
def redirect(call: Call, params: Params) -> Reply:
    """A redirect to another host."""
    return Reply(b"", int(params["http"]), {"Location": str(params["location"])}, "text/html")


@answer_fault(http=401)
def expired_token(call: Call, params: Params) -> Reply:
    """105002 with http 401 or 200, whatever the token."""
    raise RefusedError(105002, status=int(params["http"]))


@answer_fault(code=36009004)
def revoked(call: Call, params: Params) -> Reply:
    """A withdrawn consent: 36009004 about the token, or the code given (105002, 101000)."""
    message = "Invalid credentials. The 'access_token' is invalid." if params["code"] == 36009004 else ""
    raise RefusedError(int(params["code"]), message, status=401)


@answer_fault()
def scope_missing(call: Call, params: Params) -> Reply:
    """105005: the consent lacks this API's scope."""
    raise RefusedError(105005)


@answer_fault(code=36009043)
def shop_inactive(call: Call, params: Params) -> Reply:
    """36009043: the shop is inactive; with code 36009044 the seller is."""
    raise RefusedError(int(params["code"]))


@answer_fault()
def bad_signature(call: Call, params: Params) -> Reply:
    """106001, however well the request is signed."""
    raise RefusedError(106001)


@answer_fault()
def retired_version(call: Call, params: Params) -> Reply:
    """36009014: this version of the API is gone."""
    raise RefusedError(36009014)


@answer_fault()
def ip_denied(call: Call, params: Params) -> Reply:
    """36009033: the caller's address is not on the allow list."""
    raise RefusedError(36009033)


@answer_fault()
def hourly_cap(call: Call, params: Params) -> Reply:
    """36009037: a development shop's calls of this hour are used up."""
    raise RefusedError(36009037)


@answer_fault()
def lost_page_token(call: Call, params: Params) -> Reply:
    """A request with a page token is refused as if the token were unknown."""
    raise invalid("page_token")


@mark_fault("size", size=20)
def page_size_ignored() -> None:
    """Pages of this many rows whatever was asked; the next tokens fit them."""


@mark_fault("clock", seconds=0)
def clock_skew() -> None:
    """The server's clock is off by this many seconds: Date header and timestamp check."""
