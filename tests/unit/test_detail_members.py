"""A record that was read by its id equals the search's, byte for byte."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sync.engine.lookups import strip
from sync.model import Record
from sync.streams.orders import ORDERS

assert ORDERS.lookup is not None
EXTRA = ORDERS.lookup.without
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('aé\\"\u2028,', max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def encoded(members: object) -> bytes:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")


@given(
    st.dictionaries(st.text("abc_", min_size=1, max_size=4), _values, max_size=6),
    st.dictionaries(st.sampled_from(sorted(EXTRA)), _values),
)
def test_without_its_extra_members_a_detail_is_the_searchs_record(
    members: dict[str, object], extra: dict[str, object]
) -> None:
    detail = Record(key="7", raw=encoded(dict(sorted((members | extra).items()))), scrubbed=True, time=5)
    assert strip(detail, EXTRA) == Record(
        key="7", raw=encoded(dict(sorted(members.items()))), scrubbed=True, time=5
    )


def test_numbers_and_escapes_stay_as_they_came() -> None:
    raw = rb'{"a":1.50,"payment_card_type":"VISA","b":"\u00e9\/","c":12345678901234567890123,"a2":1e5}'
    assert strip(Record(key="7", raw=raw), EXTRA).raw == (
        rb'{"a":1.50,"b":"\u00e9\/","c":12345678901234567890123,"a2":1e5}'
    )


def test_what_is_inside_another_member_stays() -> None:
    raw = b'{"payment":{"payment_card_type":"VISA"}}'
    assert strip(Record(key="7", raw=raw), EXTRA).raw == raw


def test_what_is_no_object_is_left_to_the_store() -> None:
    for raw in (b"7", b"[", b"", b'"x"'):
        assert strip(Record(key=None, raw=raw), EXTRA).raw == raw
