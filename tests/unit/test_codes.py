"""What each answer of TikTok Shop means to a sync: the scope that gives up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from sync.tiktok.codes import classify

CODES: dict[int, type[SyncError]] = {
    36009002: RateLimitedError,
    36009003: RequestError,
    36009007: RequestError,
    36009009: StreamError,
    36009010: StreamError,
    36009014: StreamError,
    36009021: BadRequestError,
    36009022: BadRequestError,
    36009023: BadRequestError,
    36009033: AppError,
    36009037: StreamError,
    36009043: ShopError,
    36009044: ShopError,
    101000: CipherError,
    105001: TokenError,
    105002: TokenError,
    105003: TokenError,
    105004: TokenError,
    105005: ScopeError,
    106001: AppError,
    106013: BadRequestError,
    36004001: NeedsReauthError,
    36004004: BadRequestError,
    36004005: NeedsReauthError,
    98001004: BadRequestError,
    # Failed to fetch, or internal to the endpoint: documented as worth another try.
    10002014: RequestError,
    10002015: RequestError,
    10037002: RequestError,
    10037003: RequestError,
    10037004: RequestError,
    10006402: RequestError,
    25020008: RequestError,
    12001000: RequestError,
    12052881: RequestError,
    33001002: RequestError,
    # Results or questions that are too large: smaller ones work.
    12052180: SliceTooBigError,
    12019015: SliceTooBigError,
    12019120: SliceTooBigError,
    12052700: ShopError,
    12019109: BadRequestError,
    12019118: BadRequestError,
    12019119: BadRequestError,
    12052910: BadRequestError,
    12019008: BadRequestError,
    25001001: BadRequestError,
    22005007: BadRequestError,
}

MESSAGES: list[tuple[str, type[SyncError]]] = [
    ("Missing credentials. The 'sign' query parameter, the signature, is missing.", BadRequestError),
    ("Invalid credentials. The 'x-tts-access-token' header is invalid.", TokenError),
    ("Invalid credentials. The `access_token` is invalid.", TokenError),
    ("Invalid credentials. The 'app_key' query parameter is invalid.", AppError),
    ("Expired credentials. The `timestamp` query parameter is earlier than 5 minutes.", ClockSkewError),
    ("Invalid credentials. The 'timestamp' must not exceed the current time by 30 seconds.", ClockSkewError),
    ("Invalid credentials. The 'timestamp' is < 0.", ClockSkewError),
    ("Unexpected identifier. The 'shop_cipher' must not be sent.", BadRequestError),
    ("Invalid 'shop_cipher'.", CipherError),
    ("shop_id is invalid", BadRequestError),
    ("The API version is invalid.", BadRequestError),
    ("Invalid param: the date range is too long.", BadRequestError),
    ("invalid param `page_token`", PageTokenError),
    ("Invalid page token.", PageTokenError),
]


def kind(error: SyncError) -> type[SyncError]:
    return type(error)


@pytest.mark.parametrize(("code", "expected"), CODES.items())
@pytest.mark.parametrize("status", [200, 400, 401])
def test_a_documented_code_gives_up_at_its_scope_whatever_the_status(
    code: int, expected: type[SyncError], status: int
) -> None:
    assert kind(classify(status=status, code=code, message="some text")) is expected


@pytest.mark.parametrize("code", [c for c, kind in CODES.items() if kind is not BadRequestError])
def test_a_known_code_decides_before_a_server_error(code: int) -> None:
    assert kind(classify(status=500, code=code, message="some text")) is CODES[code]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_code_with_many_meanings_is_told_apart_by_its_message(
    message: str, expected: type[SyncError], status: int
) -> None:
    assert kind(classify(status=status, code=36009004, message=message)) is expected


@given(st.integers(min_value=60_000_000, max_value=98_000_000))
def test_an_unknown_code_is_the_slice_s_affair_and_keeps_its_number(code: int) -> None:
    error = classify(status=400, code=code, message="never heard of")
    assert isinstance(error, BadRequestError)
    assert error.code == code


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_unknown_code_with_a_server_error_is_tried_again(status: int) -> None:
    assert kind(classify(status=status, code=77_000_000, message="?")) is RequestError


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
@pytest.mark.parametrize("code", [None, 0])
def test_a_server_error_without_a_code_is_tried_again(status: int, code: int | None) -> None:
    assert kind(classify(status=status, code=code, message="<html>")) is RequestError


@pytest.mark.parametrize("code", [None, 0, 77_000_000, 36009002, 36009003])
def test_status_429_slows_down_and_keeps_the_wish_of_the_server(code: int | None) -> None:
    error = classify(status=429, code=code, message="", retry_after_s=7.0)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 7.0


def test_the_limit_code_slows_down_under_status_200() -> None:
    error = classify(status=200, code=36009002, message="", retry_after_s=None)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s is None


def test_an_hourly_cap_is_not_waited_out_like_a_rate_limit() -> None:
    assert kind(classify(status=429, code=36009037, message="")) is StreamError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 404])
def test_an_address_that_is_no_api_is_named_as_a_setting(status: int) -> None:
    error = classify(status=status, code=None, message="")
    assert isinstance(error, AppError)
    assert "SHOPSYNC_API_URL" in str(error)


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_that_is_no_envelope_is_tried_again(status: int) -> None:
    assert kind(classify(status=status, code=None, message="not JSON")) is RequestError


@pytest.mark.parametrize("code", [36004001, 36004005, 105005, 106001, 36009033, 36009043, 36009014])
def test_what_a_person_must_do_is_said(code: int) -> None:
    error = str(classify(status=400, code=code, message="refused"))
    advice, _, answer = error.partition(" (TikTok Shop answered ")
    assert answer == f"{code}: refused)"
    assert len(advice.split()) > 5
