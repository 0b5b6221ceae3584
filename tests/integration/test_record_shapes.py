"""Hypothesis spoils records of every stream: no page fails, and no good neighbour is lost."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sync.streams.registry import STREAMS
from tests.shape_stage import open_stage, try_pages
from tests.shapes import LITERALS, MOST_BAD, Spoil

_EXAMPLES = 15


@pytest.mark.parametrize("stream", STREAMS)
def test_records_of_any_shape_cost_no_neighbour_and_are_accounted_for(database_url: str, stream: str) -> None:
    with capture_logs():
        try_pages(database_url, stream, examples=_EXAMPLES, seed=1)


@pytest.mark.parametrize("stream", STREAMS)
async def test_every_odd_value_in_place_of_the_id_costs_no_neighbour(database_url: str, stream: str) -> None:
    with capture_logs():
        async with open_stage(database_url) as stage:
            place = stage.place_of_key(stream)
            odd = [[Spoil(place, "put", number)] for number in range(len(LITERALS))]
            pages = [odd[start : start + MOST_BAD] for start in range(0, len(odd), MOST_BAD)]
            found = [(one, line) for one in pages for line in await stage.try_page(stream, one)]
    assert found == []
