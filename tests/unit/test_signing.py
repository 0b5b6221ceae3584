"""Signatures: the published vectors, and agreement with an independent client on anything."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktok_shop_api.signing import Signer

from sync.tiktok.signing import sign_notification, sign_request

SECRET = "e59af819cc"
BASE = {"app_key": "29a39d", "timestamp": "1623812664"}
SHOP = BASE | {"shop_cipher": "GCP_XF90igAAAABh00qsWgtvOiGFNqyubMt3"}
SORTED = SHOP | {"page_size": "100", "sort_field": "update_time", "sort_order": "ASC"}
TOKEN = "6AsPQsUMvH3RkchNUPPh22NROHkE0D8pmq/N5M1kHYcZmtRyv9aVrNv65W7Q6tFA+7D1ud64MPNz5OaT"
TIMES = b'{"update_time_ge":1623726264,"update_time_lt":1623812664}'


@dataclass(frozen=True, slots=True)
class Vector:
    """One worked example: a request and its signature."""

    path: str
    query: dict[str, str]
    sign: str
    body: bytes = b""
    multipart: bool = False


VECTORS = {
    "official": Vector(
        "/authorization/202309/shops",
        BASE,
        "b596b73e0cc6de07ac26f036364178ab16b0a907af13d43f0a0cd2345f582dc8",
    ),
    "comma joined ids": Vector(
        "/order/202507/orders",
        SHOP | {"ids": "576461413038785752,576461413038785753"},
        "aafec5193e65e35a859b9b151609f07fc494a08a9a6cef019fc4d35ad9ab2e96",
    ),
    "first page": Vector(
        "/order/202309/orders/search",
        SORTED,
        "0c36d264703047d148922d406ba1873f25050157d8c973c714c1436dca7515e9",
        body=TIMES,
    ),
    "page token with plus and slash": Vector(
        "/order/202309/orders/search",
        SORTED | {"page_token": TOKEN},
        "b17c6ab8541c73ac912c98565a778a89e206bddc5afed2be5484d59c9c33e099",
        body=TIMES,
    ),
    "empty object": Vector(
        "/product/202502/products/search",
        SHOP | {"page_size": "100"},
        "efdd38f10e9b149340aa6e5fd19c2fdb8177f5cee783dc55bd4d7fa74be3e5f2",
        body=b"{}",
    ),
    "no body": Vector(
        "/product/202502/products/search",
        SHOP | {"page_size": "100"},
        "754138f73ca39159cf478deea61ba919306feabd89163651e45ec4dca9ebedf4",
    ),
    "put": Vector(
        "/event/202309/webhooks",
        {
            "timestamp": "1696909648",
            "app_key": "68xu9ks5p4i8",
            "shop_cipher": "ROW_xkMbgAAAeVAQra0eZWebFQq5aIKt",
        },
        "a75b9c8cd57140cab6dc95bf31c37bd6ffface74210768b6517c0ff81659b0ba",
        body=b'{"address":"https://partner.tiktokshop.com","event_type":"PACKAGE_UPDATE"}',
    ),
    "space in the body": Vector(
        "/product/202309/inventory/search",
        SHOP,
        "2d41d115944c985f521b6be060d366d1be79d5d8e5264bae2ce83d4c78b61559",
        body=b'{"product_ids": ["1729592969712207008"]}',
    ),
    "multipart": Vector(
        "/product/202309/images/upload",
        BASE,
        "2f292aaeecc6a6ce8c7240771265c3342b343f27ef91271fe72a9452d74fa844",
        body=b"IGNORED",
        multipart=True,
    ),
}

TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("+/,=& %{}\"'é中🛒")))
KEYS = st.one_of(
    st.sampled_from(["sign", "access_token", "page_token", "shop_cipher", "ids", "Ids", "_"]), TEXT
)


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_a_request_is_signed_as_published(vector: Vector) -> None:
    signed = sign_request(
        vector.path, vector.query, app_secret=SECRET, body=vector.body, multipart=vector.multipart
    )
    assert signed == vector.sign


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_the_signature_itself_and_the_token_are_not_signed(vector: Vector) -> None:
    query = {"sign": "anything", "access_token": "anything"} | vector.query
    signed = sign_request(vector.path, query, app_secret=SECRET, body=vector.body, multipart=vector.multipart)
    assert signed == vector.sign


@pytest.mark.parametrize(
    ("app_key", "secret", "body", "sign"),
    [
        (
            "abcdef",
            "123",
            b'{"type":1,"tts_notification_id":"7380066284010030890","shop_id":"7495540735365777507",'
            b'"timestamp":1718305585,"data":{"is_on_hold_order":true,"order_id":"576653688135258178",'
            b'"order_status":"UNPAID","update_time":1718305585}}',
            "5dec0f11ec2f6783b8deee53c9ffbf8d024302f7c7e7fa55a35d17629031ac05",
        ),
        (
            "29a39d",
            SECRET,
            b'{"type":6,"tts_notification_id":"7327112393057371910","shop_id":"7494049642642441621",'
            b'"timestamp":1644412885,"data":{"message":"Shop_id {7494049642642441621} is deauthorized '
            b'from your APP by merchant."}}',
            "46f491c7387515f42f5414dc5b9f6af70bdcc6ba288fa0d9be633a571f41a30d",
        ),
    ],
    ids=["official", "deauthorization"],
)
def test_a_notification_is_signed_as_published(app_key: str, secret: str, body: bytes, sign: str) -> None:
    assert sign_notification(body, app_key=app_key, app_secret=secret) == sign


@given(
    path=TEXT,
    query=st.dictionaries(KEYS, TEXT),
    body=st.one_of(st.none(), TEXT),
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    multipart=st.booleans(),
)
def test_any_request_is_signed_as_the_third_party_client_signs_it(
    path: str, query: dict[str, str], body: str | None, secret: str, multipart: bool
) -> None:
    raw = b"" if body is None else body.encode()
    theirs = Signer.sign(
        path=path,
        query=list(query.items()),
        content_type="multipart/form-data; boundary=x" if multipart else "application/json",
        body=None if body is None else raw,
        app_secret=secret,
    )
    assert sign_request(path, query, app_secret=secret, body=raw, multipart=multipart) == theirs
