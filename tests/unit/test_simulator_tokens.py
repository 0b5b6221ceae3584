"""Page tokens on their own: what they hide, what they accept, and for how long."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.simulator.paging import BadPageTokenError, Place, PlainTokens, SealedTokens

_TOKENS = SealedTokens(secret=b"0" * 32)
_PLACES = st.builds(
    Place,
    st.sampled_from(["offset", "after", "snapshot"]),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
)


@given(_PLACES, st.text())
def test_a_sealed_token_gives_its_place_back_to_the_same_search(place: Place, search: str) -> None:
    assert _TOKENS.read(_TOKENS.write(place, search, now=100.0), search, oldest=100.0) == place


@given(_PLACES)
def test_a_sealed_token_refuses_another_search_and_a_later_time(place: Place) -> None:
    token = _TOKENS.write(place, "this", now=100.0)
    for search, oldest in (("that", 0.0), ("this", 100.5)):
        with pytest.raises(BadPageTokenError):
            _TOKENS.read(token, search, oldest=oldest)


@given(_PLACES, st.integers(0, 10_000), st.integers(1, 255))
def test_a_sealed_token_with_one_byte_changed_is_refused(place: Place, position: int, change: int) -> None:
    raw = bytearray(base64.b64decode(_TOKENS.write(place, "this", now=100.0)))
    raw[position % len(raw)] ^= change
    with pytest.raises(BadPageTokenError):
        _TOKENS.read(base64.b64encode(bytes(raw)).decode(), "this", oldest=0.0)


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    with pytest.raises(BadPageTokenError):
        _TOKENS.read(text, "this", oldest=0.0)
    with pytest.raises(BadPageTokenError):
        PlainTokens().read(text, "this", oldest=0.0)


@given(_PLACES)
def test_a_plain_token_gives_its_place_back_to_anyone(place: Place) -> None:
    token = PlainTokens().write(place, "this", now=0.0)
    assert PlainTokens().read(token, "that", oldest=9e9) == (
        Place("offset", place.first) if place.kind == "offset" else place
    )
