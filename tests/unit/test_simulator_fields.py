"""The simulated records against the documented field lists, as the third-party client's models carry them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import attrs
import pytest
from tiktok_shop_api.generated.types import Unset

from sync.simulator.product_detail import compose_detail
from sync.simulator.world import World, build_world
from tests.third_party import MODELS, models

pytestmark = MODELS


@lru_cache(maxsize=1)
def _world() -> World:
    return build_world(seed=11, shops=8, orders_per_shop=1_000, products_per_shop=200, now=1_790_000_000)


def _records(stream: str) -> Iterable[Any]:
    for shop in _world().shops.values():
        if stream == "orders":
            yield from (json.loads(body) for body in shop.orders.bodies())
        elif stream == "products":
            yield from (json.loads(body) for body in shop.product_rows.bodies())
        elif stream == "inventory":
            yield from (product.inventory_record() for product in shop.products.values())
        elif stream == "details":
            yield from (compose_detail(product) for product in shop.products.values())
        else:
            yield from (json.loads(warehouse.body) for warehouse in shop.warehouses)


def _note(value: object, seen: set[str], known: set[str], unknown: set[str]) -> None:
    """Which documented fields the parsed value has, and which others, at every depth."""
    if isinstance(value, list):
        for part in value:
            _note(part, seen, known, unknown)
        return
    model = type(value)
    if not attrs.has(model):
        return
    for field in attrs.fields(model):
        name, part = f"{model.__name__}.{field.name}", getattr(value, field.name)
        if field.name == "additional_properties":
            unknown |= {f"{model.__name__}.{extra}" for extra in part}
            continue
        known.add(name)
        if not isinstance(part, Unset):
            seen.add(name)
            _note(part, seen, known, unknown)


_STREAMS = [
    ("orders", "GetOrderListResponseDataOrder"),
    ("products", "SearchProductsResponseDataProduct"),
    ("inventory", "InventorySearchResponseDataInventory"),
    ("warehouses", "GetWarehouseListResponseDataWarehouse"),
]


@pytest.mark.parametrize(("stream", "model"), _STREAMS)
def test_every_documented_field_is_sent_somewhere_and_no_other(stream: str, model: str) -> None:
    seen: set[str] = set()
    known: set[str] = set()
    unknown: set[str] = set()
    for record in _records(stream):
        _note(getattr(models(), model).from_dict(record), seen, known, unknown)
    assert len(known) > 15
    assert known - seen == set()
    assert unknown == set()


def test_single_products_have_no_undocumented_field() -> None:
    unknown: set[str] = set()
    for record in _records("details"):
        _note(models().GetProductResponseData.from_dict(record), set(), set(), unknown)
    assert unknown == set()
