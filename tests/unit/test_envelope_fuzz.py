"""Whatever bytes come back, reading them ends in a page or in RequestError."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.errors import RequestError
from sync.model import Page
from sync.tiktok.envelope import read_envelope, read_page, scrub

FETCHED_AT = datetime(2026, 3, 1, tzinfo=UTC)

GOOD = (
    '{"code":0,"message":"Success é","request_id":"r1","data":{"next_page_token":"a+/==","total_count":2,'
    '"orders":[{"id":"1","n":-1.5e3,"t":"\\u0041\\ud83d\\ude00 😀","f":[true,null,{}]},{"id":2}]}}'
).encode()

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.just(10**4000)
    | st.sampled_from(["", "0", "-1", "\x00", "\ud800", "\udc00\ud800", "😀", "\ufffd"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("orders", "total_count", "next_page_token"), JSON_VALUES)
)
RECORDS = st.fixed_dictionaries({"id": st.text(), "note": JSON_VALUES, "more": JSON_VALUES})


def read(body: bytes, *, key: str = "id") -> Page | None:
    """The page, or None for the one error that a caller has to expect."""
    try:
        envelope = read_envelope(body)
        envelope.message.encode()
        assert "\x00" not in envelope.message
        return read_page(bytes(envelope.data), records="orders", key=key, fetched_at=FETCHED_AT)
    except RequestError:
        return None


def cleaned(value: Any) -> Any:
    """What a store that holds neither NUL nor halves of pairs can keep of a value."""
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return "".join("\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in whole)
    if isinstance(value, float) and not math.isfinite(value):
        return "\ufffd"
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(k): cleaned(v) for k, v in value.items()}
    return value


def check(page: Page) -> None:
    """What every later stage relies on."""
    assert page.total is None or page.total >= 0
    assert page.next_token != ""
    for record in page.records:
        text = record.raw.decode()
        json.loads(text, parse_int=str, parse_constant=pytest.fail)
        assert record.key != ""
        if record.key is not None:
            record.key.encode()
            assert "\x00" not in record.key


@pytest.mark.parametrize("end", range(len(GOOD)))
def test_an_answer_that_is_cut_anywhere_is_a_failed_request(end: int) -> None:
    assert read(GOOD[:end]) is None


def test_the_whole_answer_is_a_page() -> None:
    page = read(GOOD)
    assert page is not None
    assert ([r.key for r in page.records], page.total, page.next_token) == (["1", "2"], 2, "a+/==")


@given(st.binary())
def test_any_bytes_end_in_a_page_or_a_failed_request(body: bytes) -> None:
    page = read(body)
    assert page is None or not page.records


@settings(max_examples=400)
@given(place=st.integers(0, len(GOOD) - 1), inserted=st.binary(max_size=3), removed=st.integers(0, 3))
def test_any_damage_ends_in_a_usable_page_or_a_failed_request(
    place: int, inserted: bytes, removed: int
) -> None:
    page = read(GOOD[:place] + inserted + GOOD[place + removed :])
    if page is not None:
        for record in page.records:
            record.raw.decode()


@settings(max_examples=200)
@given(members=MEMBERS, code=JSON_VALUES, message=JSON_VALUES, ascii_only=st.booleans())
def test_members_of_any_type_end_in_a_usable_page_or_a_failed_request(
    members: dict[str, Any], code: Any, message: Any, ascii_only: bool
) -> None:
    for value in (0, code):
        text = json.dumps({"code": value, "message": message, "data": members}, ensure_ascii=ascii_only)
        page = read(text.encode("utf-8", "surrogatepass"))
        if page is not None:
            check(page)


@settings(max_examples=300)
@given(records=st.lists(RECORDS, max_size=4), ascii_only=st.booleans())
def test_every_record_arrives_whole_but_for_what_cannot_be_stored(
    records: list[dict[str, Any]], ascii_only: bool
) -> None:
    data = {"orders": records, "total_count": len(records)}
    text = json.dumps({"code": 0, "data": data}, ensure_ascii=ascii_only)
    page = read(text.encode("utf-8", "surrogatepass"))
    assert page is not None
    check(page)
    for sent, record in zip(records, page.records, strict=True):
        if ascii_only:
            assert json.loads(record.raw) == cleaned(sent)
            assert record.scrubbed == (json.dumps(cleaned(sent)) != json.dumps(sent))
        elif not record.scrubbed:
            assert json.loads(record.raw) == sent


@settings(max_examples=300)
@given(JSON_VALUES, st.booleans())
def test_scrubbing_changes_nothing_but_what_cannot_be_stored(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(cleaned(value), ensure_ascii=ascii_only).encode()
    assert scrub(raw) == raw


@given(JSON_VALUES)
def test_scrubbing_twice_is_scrubbing_once(value: Any) -> None:
    once = scrub(json.dumps(value).encode())
    assert scrub(once) == once
