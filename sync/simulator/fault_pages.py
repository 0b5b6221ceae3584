"""Faults inside a page of records: its token, its count, its rows, single records."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sync.simulator.fault_registry import Params, page_fault, record_fault
from sync.simulator.products import encode_sorted
from sync.simulator.searches import Page

_TEXT_FIELDS = {"orders": "buyer_message", "products": "title", "warehouses": "name", "shops": "name"}
_COUNT_FIELDS = {"orders": "tts_sla_time", "products": "create_time"}
_OBJECT_FIELDS = {"orders": "payment", "products": "skus", "inventory": "skus", "warehouses": "address"}
_MARK = "@planted@"


@page_fault()
def repeated_token(page: Page, params: Params) -> None:
    """From the second page on, the next token is the one that was just sent."""
    page.next_token = page.sent_token or page.next_token


@page_fault()
def empty_page_with_token(page: Page, params: Params) -> None:
    """No rows, but a next token: the true one, the one just sent, or one made up."""
    page.rows = []
    page.next_token = page.next_token or page.sent_token or "b2Zmc2V0PTAK+/=="


@page_fault()
def total_count_absent(page: Page, params: Params) -> None:
    """The page has no total_count."""
    page.total = None


@page_fault(delta=7)
def total_count_wrong(page: Page, params: Params) -> None:
    """total_count is off by delta."""
    page.total = (page.total or 0) + int(params["delta"])


@page_fault()
def total_count_negative(page: Page, params: Params) -> None:
    """total_count is -1."""
    page.total = -1


@page_fault()
def null_list(page: Page, params: Params) -> None:
    """The list of records is null."""
    page.is_null = True


@page_fault(count=1)
def duplicate_rows(page: Page, params: Params) -> None:
    """The first rows of the page come once more at its end."""
    page.rows = page.rows + page.rows[: int(params["count"])]


@page_fault(id="")
def hidden_row(page: Page, params: Params) -> None:
    """One row is left out though total_count counts it: the one with this id, or the middle one."""
    place = find_record(page, str(params["id"]))
    if place is not None:
        page.rows = page.rows[:place] + page.rows[place + 1 :]


def find_record(page: Page, record_id: str) -> int | None:
    """The place in the page of the record with this id, or of the middle one for "" (None: not here)."""
    if not record_id:
        return len(page.rows) // 2 if page.rows else None
    wanted = re.compile(rb'"(?:product_)?id":"' + re.escape(record_id.encode()) + b'"')
    for place, row in enumerate(page.rows):
        if wanted.search(row) and record_id in (_id_of(row), ""):
            return place
    return None


def _id_of(row: bytes) -> str:
    record = msgspec.json.decode(row)
    return str(record.get("id") or record.get("product_id"))


def _plant(row: bytes, key: str, *, params: Params, literal: bytes) -> bytes:
    """The row with a JSON literal of our own, valid or not, as the value of its text field."""
    record: dict[str, Any] = msgspec.json.decode(row)
    field = str(params["field"])
    if field or key in _TEXT_FIELDS:
        record[field or _TEXT_FIELDS[key]] = _MARK
    else:
        record["skus"][0]["seller_sku"] = _MARK
    return encode_sorted(record).replace(b'"%b"' % _MARK.encode(), literal)


@record_fault(id="", field="")
def record_with_nul(row: bytes, key: str, *, params: Params) -> bytes:
    r"""A text of one record holds a \u0000."""
    return _plant(row, key, params=params, literal=rb'"before\u0000after"')


@record_fault(id="", field="")
def record_with_surrogate(row: bytes, key: str, *, params: Params) -> bytes:
    r"""A text of one record holds a lone \ud800."""
    return _plant(row, key, params=params, literal=rb'"before\ud800after"')


@record_fault(id="", field="")
def record_with_bad_utf8(row: bytes, key: str, *, params: Params) -> bytes:
    """A text of one record holds bytes that are no UTF-8."""
    return _plant(row, key, params=params, literal=b'"before\xff\xfeafter"')


@record_fault(id="", field="")
def record_with_nan(row: bytes, key: str, *, params: Params) -> bytes:
    """A value of one record is the literal NaN, which is no JSON."""
    return _plant(row, key, params=params, literal=b"NaN")


@record_fault(id="", field="", digits=5000)
def record_huge_number(row: bytes, key: str, *, params: Params) -> bytes:
    """A time of one record is a number of very many digits."""
    field = str(params["field"]) or _COUNT_FIELDS.get(key, "")
    return _plant(row, key, params=params | {"field": field}, literal=b"9" * int(params["digits"]))


@record_fault(id="", field="", depth=100_000)
def record_deeply_nested(row: bytes, key: str, *, params: Params) -> bytes:
    """A value of one record is an array nested very deep."""
    depth = int(params["depth"])
    return _plant(row, key, params=params, literal=b"[" * depth + b"]" * depth)


@record_fault(id="", field="", text="not what it was")
def record_type_change(row: bytes, key: str, *, params: Params) -> bytes:
    """An object or list of one record is a text instead."""
    record: dict[str, Any] = msgspec.json.decode(row)
    record[str(params["field"]) or _OBJECT_FIELDS.get(key, "name")] = str(params["text"])
    return encode_sorted(record)


@record_fault(id="")
def record_without_id(row: bytes, key: str, *, params: Params) -> bytes:
    """One record has no id."""
    record: dict[str, Any] = msgspec.json.decode(row)
    record.pop("product_id" if key == "inventory" else "id", None)
    return encode_sorted(record)


@record_fault(id="")
def record_null_update_time(row: bytes, key: str, *, params: Params) -> bytes:
    """One record's update_time is null."""
    record: dict[str, Any] = msgspec.json.decode(row)
    return encode_sorted(record | {"update_time": None})
