"""Envelopes and pages: what of an answer is read, and how one bad value stays one record's affair."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.errors import RequestError
from sync.model import Page
from sync.tiktok.envelope import read_envelope, read_page

FETCHED_AT = datetime(2026, 3, 1, tzinfo=UTC)


def answer(*records: bytes, total: bytes = b"", token: bytes = b"") -> bytes:
    """The bytes of a successful answer with these records, as they are."""
    members = [b'"orders":[' + b",".join(records) + b"]"]
    members += [b'"total_count":' + total] * bool(total)
    members += [b'"next_page_token":' + token] * bool(token)
    return b'{"code":0,"message":"Success","request_id":"r1","data":{' + b",".join(members) + b"}}"


def page_of(body: bytes, *, records: str = "orders", key: str = "id") -> Page:
    envelope = read_envelope(body)
    return read_page(bytes(envelope.data), records=records, key=key, fetched_at=FETCHED_AT)


def order(order_id: str, note: bytes) -> bytes:
    """An order whose buyer's message is a literal of the test's own."""
    return b'{"id":"' + order_id.encode() + b'","buyer_message":' + note + b',"total":1.10}'


def message_of(raw: bytes) -> Any:
    return json.loads(raw)["buyer_message"]


POISONS = {
    "NUL": rb'"a\u0000b"',
    "lone high surrogate": rb'"a\ud800b"',
    "lone low surrogate": rb'"a\uDC00b"',
    "high surrogate before a letter": rb'"a\uD83Dx"',
    "surrogates in the wrong order": rb'"\udc00\ud83d"',
    "bytes that are no UTF-8": b'"a\xff\xfeb"',
    "surrogate encoded as UTF-8": b'"a\xed\xa0\x80b"',
    "cut UTF-8 sequence": b'"a\xe4\xb8"',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "nested beyond any stack": b"[" * 10_000 + b"]" * 10_000,
    "objects nested beyond any stack": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
def test_a_value_that_cannot_be_stored_is_replaced_and_said(poison: bytes) -> None:
    (record,) = page_of(answer(order("1", poison))).records
    assert record.key == "1"
    assert record.scrubbed
    kept = message_of(record.raw)
    assert "\ufffd" in json.dumps(kept, ensure_ascii=False)
    assert "\x00" not in json.dumps(kept, ensure_ascii=False)
    json.dumps(kept, ensure_ascii=False).encode()


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
@pytest.mark.parametrize("others", POISONS.values(), ids=POISONS.keys())
def test_the_neighbours_of_poisoned_records_stay_as_they_were(poison: bytes, others: bytes) -> None:
    good = [order("1", b'"\xe4\xb8\xad \\" \\\\u0000 [{NaN"'), order("4", b"12345678901234567890.10")]
    page = page_of(answer(good[0], order("2", poison), order("3", others), good[1]))
    assert [r.key for r in page.records] == ["1", "2", "3", "4"]
    assert [r.raw for r in page.records if r.key in ("1", "4")] == good
    assert [r.scrubbed for r in page.records] == [False, True, True, False]


@pytest.mark.parametrize(
    "digits", [b"9" * 20, b"9" * 400, b"9" * 5_000, b"-" + b"9" * 6_000, b"1e999999", b"0." + b"1" * 5_000]
)
@pytest.mark.parametrize("poison", [b'""', *POISONS.values()], ids=["no poison", *POISONS.keys()])
def test_numbers_of_any_size_pass_through_as_they_are(digits: bytes, poison: bytes) -> None:
    body = answer(b'{"id":"1","paid_time":' + digits + b"}", order("2", poison))
    page = page_of(body)
    assert page.records[0].raw == b'{"id":"1","paid_time":' + digits + b"}"


def test_a_huge_number_beside_a_poison_in_one_record_survives() -> None:
    raw = b'{"id":"1","n":' + b"7" * 5_000 + rb',"price":0.10,"buyer_message":"\u0000"}'
    (record,) = page_of(answer(raw)).records
    assert record.scrubbed
    assert b'"n":' + b"7" * 5_000 in record.raw
    assert b'"price":0.10' in record.raw


@pytest.mark.parametrize("name", [rb"\u0000", rb"\ud800", b"\xff"])
def test_a_poisoned_member_name_is_replaced_too(name: bytes) -> None:
    (record,) = page_of(answer(b'{"id":"1","x' + name + b'":1}')).records
    assert record.scrubbed
    assert json.loads(record.raw) == {"id": "1", "x\ufffd": 1}


@pytest.mark.parametrize(
    "text",
    [
        "🛒 和 ñ",
        "\\u0000 is how NUL is written",
        "\\\\ud800",
        'quote " and backslash \\',
        "line\nbreak\ttab\x01",
        "\ufffd was there before",
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_good_text_is_untouched(text: str, ascii_only: bool) -> None:
    note = json.dumps(text, ensure_ascii=ascii_only).encode()
    (record,) = page_of(answer(order("1", note))).records
    assert not record.scrubbed
    assert record.raw == order("1", note)


def test_a_pair_of_surrogates_beside_a_half_stays_a_character() -> None:
    (record,) = page_of(answer(order("1", rb'"\uD83D\uDE00 \ud83d \u0000 \ud83d\ud83d\ude00"'))).records
    assert record.scrubbed
    assert message_of(record.raw) == "😀 \ufffd \ufffd \ufffd😀"


@pytest.mark.parametrize(
    ("literal", "key"),
    [
        (b'"576461413038785752"', "576461413038785752"),
        (b"576461413038785752", "576461413038785752"),
        (b"99999999999999999999999999", "99999999999999999999999999"),
        (b'"007"', "007"),
        (b'""', None),
        (b"null", None),
        (b"true", None),
        (b"1.5", None),
        (b"[1]", None),
        (b'{"a":1}', None),
    ],
)
@pytest.mark.parametrize("name", ["id", "product_id"])
def test_the_id_is_read_from_text_or_whole_numbers_only(literal: bytes, key: str | None, name: str) -> None:
    raw = b'{"' + name.encode() + b'":' + literal + b"}"
    (record,) = page_of(answer(raw), key=name).records
    assert (record.key, record.raw) == (key, raw)


@pytest.mark.parametrize(
    ("literal", "time"),
    [
        (b"1772323200", 1772323200),
        (b'"1772323200"', 1772323200),
        (b"253402300799", 253402300799),
        *((b, None) for b in (b"253402300800", b"0", b"-1", b"1.5", b"1e9", b"null", b"true", b"[]", b"{}")),
        *((b, None) for b in (b'""', b'"soon"', b'"-1"', b'"1.5"', b'" 1"', b'"\xc2\xb2"', b'"\xd9\xa1"')),
        (b"9" * 5_000, None),
        (b'"' + b"9" * 5_000 + b'"', None),
    ],
)
def test_the_update_time_is_read_from_whole_numbers_that_can_be_one(literal: bytes, time: int | None) -> None:
    (record,) = page_of(answer(b'{"update_time":' + literal + b',"id":"1"}')).records
    assert (record.key, record.time) == ("1", time)


def test_an_id_of_the_wrong_type_does_not_hide_the_update_time() -> None:
    records = page_of(answer(b'{"id":[],"update_time":17}', b'{"id":"2"}')).records
    assert [(r.key, r.time) for r in records] == [(None, 17), ("2", None)]


@pytest.mark.parametrize("raw", [b"1", b'"text"', b"null", b"[]", b"{}", b"true"])
def test_a_record_that_is_no_object_has_no_id_and_harms_nobody(raw: bytes) -> None:
    page = page_of(answer(b'{"id":"1"}', raw, b'{"id":"3"}'))
    assert [r.key for r in page.records] == ["1", None, "3"]
    assert page.records[1].raw == raw


@pytest.mark.parametrize(
    ("literal", "total"),
    [
        (b"0", 0),
        (b"17", 17),
        (b'"17"', 17),
        *(
            (b, None)
            for b in (b"-1", b"1.5", b'"many"', b"null", b"true", b"[]", b"{}", b'"\xc2\xb2"', b'""')
        ),
        (b"1000000000000", 10**12),
        *((b, None) for b in (b"1000000000001", b"9" * 19, b"9" * 30, b"9" * 5_000)),
        *((b'"%b"' % b, None) for b in (b"1000000000001", b"9" * 19, b"9" * 30, b"9" * 5_000)),
    ],
)
def test_a_count_of_the_wrong_type_is_no_count(literal: bytes, total: int | None) -> None:
    assert page_of(answer(b'{"id":"1"}', total=literal)).total == total


@pytest.mark.parametrize(
    ("literal", "token"),
    [(b'"a+/=="', "a+/=="), (rb'"\u4e2d"', "中")]
    + [(b, None) for b in (b'""', b"null", b"17", b"[]", b"{}", b"false")],
)
def test_a_token_of_the_wrong_type_is_the_end(literal: bytes, token: str | None) -> None:
    assert page_of(answer(b'{"id":"1"}', token=literal)).next_token == token


@pytest.mark.parametrize("data", [b"{}", b"null", b'{"orders":null}', b'{"orders":[],"total_count":0}'])
def test_an_absent_or_null_list_is_an_empty_page(data: bytes) -> None:
    page = page_of(b'{"code":0,"data":' + data + b"}")
    assert page.records == ()
    assert page.next_token is None


@pytest.mark.parametrize("data", [b'{"total_count":3}', b'{"orders":null,"total_count":3}'])
def test_an_absent_list_is_no_empty_page_when_records_are_counted(data: bytes) -> None:
    with pytest.raises(RequestError, match="3"):
        page_of(b'{"code":0,"data":' + data + b"}")


@pytest.mark.parametrize("data", [b"1", b"[]", b'"x"', b'{"orders":{}}', b'{"orders":"x"}', b'{"orders":1}'])
def test_data_of_the_wrong_shape_is_a_failed_request(data: bytes) -> None:
    with pytest.raises(RequestError):
        page_of(b'{"code":0,"data":' + data + b"}")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"[]", b"null", b"1", b"<html>", b"{}", b"\xff\xfe\x00", '{"code":0}'.encode("utf-16")),
        *(
            b'{"code":null}',
            b'{"code":"x"}',
            b'{"code":true}',
            b'{"code":1.5}',
            b'{"code":0',
            b'{"code":NaN}',
        ),
    ],
)
def test_an_answer_without_a_code_is_a_failed_request(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_envelope(body)


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"\n \t"])
def test_a_byte_order_mark_and_space_are_skipped(prefix: bytes) -> None:
    (record,) = page_of(prefix + answer(order("1", b'"\xc3\xa9"'))).records
    assert record.raw == order("1", b'"\xc3\xa9"')


@pytest.mark.parametrize("message", [b"null", b"17", b"[]", b'"\xff"', rb'"\ud800"'])
def test_a_code_is_read_whatever_its_message_is(message: bytes) -> None:
    assert read_envelope(b'{"code":105002,"message":' + message + b',"request_id":null}').code == 105002


@pytest.mark.parametrize("shift", range(4))
def test_a_character_anywhere_in_a_large_page_is_no_poison(shift: int) -> None:
    note = b'"' + b"a" * shift + "🌸".encode() * 40_000 + b'"'
    (record,) = page_of(answer(order("1", note))).records
    assert (record.raw, record.scrubbed) == (order("1", note), False)


def test_a_page_with_an_emoji_is_not_blown_up_to_four_bytes_a_character() -> None:
    body = answer(*(order(str(n), b'"' + b"a" * 4_000 + "🌸".encode() + b'"') for n in range(100)))
    data = bytes(read_envelope(body).data)
    read_page(data, records="orders", key="id", fetched_at=FETCHED_AT)
    tracemalloc.start()
    page = read_page(data, records="orders", key="id", fetched_at=FETCHED_AT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(page.records) == 100
    assert peak < 2 * len(data)
