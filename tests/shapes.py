"""Records of any shape: good ones as the simulator sends them, and what may become of them on the way."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from sync.simulator.product_calls import encode_inventory
from sync.simulator.world import build_world

Json = Any
GOOD = 3
MOST_BAD = 5
# What may stand where something else is expected: JSON, or what somebody takes for JSON.
LITERALS: tuple[bytes, ...] = (
    *(b"null", b"true", b"false", b"{}", b"[]", b"[[]]", b"[null]", b'[{"id":"x"}]', b'{"id":"x"}'),
    *(b"0", b"-0", b"-1", b"1.5", b"1e3", b"1E400", b"-1e-400", b"9007199254740993", b"9223372036854775808"),
    *(b"1" * 39, b"9" * 400, b"9" * 4_299, b"9" * 5_000, b"0." + b"3" * 5_000, b"1e131073", b"1e-16390"),
    *(
        b"4102444800",
        b"253402300799",
        b"253402300800",
        b"1768899145250",
        b"-62135596801",
        b"9223372036854775807",
    ),
    *(b"NaN", b"Infinity", b"-Infinity", b'"NaN"', b'"Infinity"', b'"-inf"'),
    *(b'""', b'" "', b'"0"', b'"-12.30"', b'"1,234.50"', b'"1e3"', b'"1e999999"', b'"%b"' % (b"9" * 5_000)),
    *(b'"NEVER_HEARD_OF"', b'"yes"', b'"2026-03-01T12:00:00Z"', '"٣"'.encode(), '"😀é"'.encode()),
    *(rb'"a\u0000b"', rb'"\ud800"', rb'"\udc00\ud800"', rb'"\ud83d\ude00"', b'"\xff\xfe"', b'"\xed\xa0\x80"'),
    *(b'"%b"' % (b"x" * 3_000), b'"%b"' % (b"x" * 300_000), b"[" * 600 + b"]" * 600),
    *(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 20_000 + b"]" * 20_000),
)
_MARKS = [f"@planted{n}@" for n in range(len(LITERALS))]


@dataclass(frozen=True, slots=True)
class Spoil:
    """One change of a record: which place of it (counted round), and what is done there."""

    place: int
    action: str
    literal: int


SPOILS = st.builds(
    Spoil,
    place=st.integers(0, 10_000),
    action=st.sampled_from(("put", "put", "put", "drop", "rename", "wrap", "double", "swell")),
    literal=st.integers(0, len(LITERALS) - 1),
)
# Several changes of each of several records.
SPOILED_PAGES = st.lists(st.lists(SPOILS, min_size=1, max_size=3), min_size=1, max_size=MOST_BAD)


def places(record: Json) -> Iterator[tuple[Any, Any]]:
    """Every member and element at any depth, as its container and the name or index in it."""
    for name in list(record) if isinstance(record, dict) else range(len(record)):
        yield record, name
        if isinstance(record[name], (dict, list)):
            yield from places(record[name])


def spoil(record: Json, spoils: list[Spoil]) -> Json:
    """The record as the changes leave it; a mark stands for each literal until it is encoded."""
    record = copy.deepcopy(record)
    for one in spoils:
        found = list(places(record))
        if not found:
            break
        container, name = found[one.place % len(found)]
        value, mark = container[name], _MARKS[one.literal]
        if one.action == "put":
            container[name] = mark
        elif one.action == "drop":
            del container[name]
        elif one.action == "rename" and isinstance(container, dict):
            container[f"{name}_v2"] = container.pop(name)
        elif one.action == "wrap":
            container[name] = [value] if one.literal % 2 else {"value": value}
        elif one.action == "double" and isinstance(value, list):
            container[name] = value + value
        elif isinstance(container, dict):
            container[f"new_{name}"] = mark
    return record


def encode(records: list[Json]) -> bytes:
    """The body of an answer with these records; marks become what they stand for."""
    data = {"total_count": len(records), "next_page_token": "", "records": records}
    body = json.dumps({"code": 0, "message": "Success", "data": data}, ensure_ascii=False).encode()
    for mark, literal in zip(_MARKS, LITERALS, strict=True):
        if mark.encode() in body:
            body = body.replace(b'"%b"' % mark.encode(), literal)
    return body


def samples() -> dict[str, list[Json]]:
    """Good records of every stream, as the simulator sends them."""
    world = build_world(seed=7, shops=1, orders_per_shop=40, products_per_shop=20, flash_sale_orders=0)
    (shop,) = world.shops.values()
    alive = [product for product in shop.products.values() if product.status != "DELETED"]
    listed = {record["id"]: record for record in map(msgspec.json.decode, shop.product_rows.bodies())}
    warehouse = msgspec.json.decode(shop.warehouses[0].body)
    return {
        "orders": [msgspec.json.decode(body) for body in shop.orders.bodies()],
        "products": [listed[str(product.id)] for product in alive],
        "inventory": [msgspec.json.decode(encode_inventory(product)) for product in alive],
        "warehouses": [{**warehouse, "id": str(int(warehouse["id"]) + n)} for n in range(GOOD + MOST_BAD)],
    }
