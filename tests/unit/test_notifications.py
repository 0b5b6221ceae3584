"""What is read out of a notification, whatever form its ids have."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.streams.notifications import KNOWN_TYPES, Notification, read_notification
from tests.support import SAMPLES

SHOP = "7494049642642441621"


def read(type_: object, data: object, **members: Any) -> Notification:
    body = {"type": type_, "tts_notification_id": "7327112393057371910", "shop_id": SHOP, "data": data}
    notification = read_notification(json.dumps(body | members).encode())
    assert notification is not None
    return notification


ORDER, PRODUCT = "576486316948490001", "1729384756102938475"
EXPECTED = {
    1: ({"order_id": ORDER}, {("orders", ORDER)}),
    3: ({"order_id": ORDER}, {("orders", ORDER)}),
    4: (
        {"package_list": [{"package_id": "1", "order_id_list": [ORDER, "7"]}, {"order_id_list": ["8"]}]},
        {("orders", ORDER), ("orders", "7"), ("orders", "8")},
    ),
    5: ({"product_id": int(PRODUCT)}, {("products", PRODUCT)}),
    6: ({"message": "gone"}, {("consent", "")}),
    7: ({"message": "soon", "expiration_time": "1627587506"}, {("consent", "")}),
    11: ({"order_id": ORDER, "cancel_id": "4035318504086604100"}, {("orders", ORDER)}),
    12: ({"order_id": ORDER, "return_id": "5"}, {("orders", ORDER)}),
    15: ({"product_id": PRODUCT}, {("products", PRODUCT)}),
    16: ({"product_id": int(PRODUCT)}, {("products", PRODUCT), ("inventory", PRODUCT)}),
    18: ({"product_id": PRODUCT}, {("products", PRODUCT)}),
    27: ({"product_id": PRODUCT, "sku_id": "6"}, {("inventory", PRODUCT)}),
    37: ({"product_id": int(PRODUCT)}, {("products", PRODUCT)}),
    50: ({"product_id": PRODUCT, "skus": [{"sku_id": "6"}]}, {("products", PRODUCT), ("inventory", PRODUCT)}),
    71: ({"product_id": int(PRODUCT), "sku_id": 6}, {("inventory", PRODUCT)}),
}


@pytest.mark.parametrize("type_", EXPECTED)
def test_a_type_hints_at_what_it_names(type_: int) -> None:
    data, hints = EXPECTED[type_]
    assert set(read(type_, data).hints) == hints


def test_every_type_that_is_known_is_tested() -> None:
    assert set(EXPECTED) == KNOWN_TYPES


def test_an_id_that_no_float_and_no_64_bits_hold_keeps_its_digits() -> None:
    for digits in ("576486316948490001", "9223372036854775807", "732357708734418520388"):
        body = b'{"type":5,"shop_id":%b,"data":{"product_id":%b}}' % (digits.encode(), digits.encode())
        notification = read_notification(body)
        assert notification is not None
        assert notification.shop_id == digits
        assert notification.hints == (("products", digits),)


def test_an_id_that_comes_twice_is_one_hint() -> None:
    assert read(4, {"order_id": "7", "package_list": [{"order_id_list": ["7", 7]}]}).hints == (
        ("orders", "7"),
    )


@pytest.mark.parametrize(
    "data",
    [
        None, [], "text", 7, {}, {"order_id": None}, {"order_id": ""}, {"order_id": {"id": "7"}},
        {"order_id": ["7"]}, {"order_id": 1.5e18}, {"order_id": -7}, {"order_id": True},
        {"order_id": "7; DROP TABLE"}, {"order_id": "7" * 26}, {"package_list": {"order_id_list": ["7"]}},
        {"package_list": [7, None, {"order_id_list": "7"}]},
    ],
)  # fmt: skip
def test_what_names_no_record_hints_at_nothing(data: object) -> None:
    assert read(1, data).hints == ()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"type":null}', b'{"type":"x"}', b"[" * 9_000]
)
def test_what_names_no_type_is_no_notification(body: bytes) -> None:
    assert read_notification(body) is None


def test_an_unknown_type_hints_at_nothing() -> None:
    assert read(13, {"order_id": "7"}).hints == ()


def test_a_notification_without_an_id_is_known_by_its_bytes() -> None:
    first = read(3, {"order_id": "7"}, tts_notification_id=None)
    again = read(3, {"order_id": "7"}, tts_notification_id=None)
    other = read(3, {"order_id": "8"}, tts_notification_id=None)
    assert first.notification_id == again.notification_id != other.notification_id


def test_changed_stock_is_known_by_the_id_of_its_event() -> None:
    first = read(71, {"event_id": "e-1", "product_id": 7}, tts_notification_id="1")
    again = read(71, {"event_id": "e-1", "product_id": 7}, tts_notification_id="2")
    assert first.notification_id == again.notification_id == "e-1"


def test_a_change_happened_when_the_notification_says() -> None:
    assert read(15, {"update_time": 1644412885}).changed_at == datetime(2022, 2, 9, 13, 21, 25, tzinfo=UTC)
    assert read(15, {"update_time": "soon"}, timestamp=1644412885).changed_at is not None
    assert read(15, {"update_time": 9e300}).changed_at is None
    assert read(15, {"update_time": 10**24}).changed_at is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the documentation's samples are not beside this checkout")
def test_the_documentations_own_samples_hint_at_what_they_name() -> None:
    for path in sorted(SAMPLES.glob("doc_webhook_*.json")):
        notification = read_notification(path.read_bytes())
        assert notification is not None, path.name
        assert bool(notification.hints) == (notification.type in KNOWN_TYPES), path.name
