"""Who may tell the daemon that something changed, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from sync import metrics
from sync.tiktok.signing import sign_notification
from sync.web.webhooks import PATH
from tests.support import execute
from tests.webhook_probe import GLOBAL, SHOP, US, Door, hints, notification, raw, standing

pytest_plugins = ("tests.webhook_fixtures",)


def counted(type_: str, outcome: str) -> float:
    return (
        metrics.REGISTRY.get_sample_value("shopsync_notifications_total", {"type": type_, "outcome": outcome})
        or 0.0
    )


async def test_the_references_own_notification_is_accepted(
    door: Door, connection: asyncpg.Connection
) -> None:
    body = (
        b'{"type":1,"tts_notification_id":"7380066284010030890","shop_id":"7495540735365777507",'
        b'"timestamp":1718305585,"data":{"is_on_hold_order":true,"order_id":"576653688135258178",'
        b'"order_status":"UNPAID","update_time":1718305585}}'
    )
    signature = "5dec0f11ec2f6783b8deee53c9ffbf8d024302f7c7e7fa55a35d17629031ac05"
    assert await door.knock(body, signature=signature) == 200
    assert await hints(connection) == [("orders", "576653688135258178")]
    assert door.heard == [SHOP]


async def test_the_references_computed_vector_is_accepted_for_the_app_that_it_is_of(door: Door) -> None:
    body = (
        b'{"type":6,"tts_notification_id":"7327112393057371910","shop_id":"7494049642642441621",'
        b'"timestamp":1644412885,"data":{"message":"Shop_id {7494049642642441621} is deauthorized from your'
        b' APP by merchant."}}'
    )
    signature = "46f491c7387515f42f5414dc5b9f6af70bdcc6ba288fa0d9be633a571f41a30d"
    assert await door.knock(body, signature=signature) == 200


@pytest.mark.parametrize(
    "signature",
    ["", "x", "0" * 63, "0" * 65, "0" * 64, "G" * 64, "é" * 64, "Bearer " + "0" * 57],
)
async def test_what_is_not_signed_by_an_app_is_refused(
    door: Door, connection: asyncpg.Connection, signature: str
) -> None:
    assert await door.knock(notification(), signature=signature) == 401
    assert await hints(connection) == []
    assert door.heard == []


async def test_a_single_changed_byte_is_a_forgery(door: Door) -> None:
    body = notification()
    signature = sign_notification(body, app_key=GLOBAL[0], app_secret=GLOBAL[1])
    for changed in (body[:-1], body + b" ", body.replace(b'"7"', b'"8"')):
        assert await door.knock(changed, signature=signature) == 401


async def test_an_uppercase_signature_is_refused(door: Door) -> None:
    body = notification()
    signature = sign_notification(body, app_key=GLOBAL[0], app_secret=GLOBAL[1]).upper()
    assert await door.knock(body, signature=signature) == 401


async def test_another_app_of_ours_cannot_speak_for_the_shop(
    door: Door, connection: asyncpg.Connection
) -> None:
    before = counted("1", "other_app")
    body = notification()
    assert await door.knock(body, app=US) == 200
    assert await hints(connection) == []
    assert counted("1", "other_app") == before + 1
    # Nor does it use up the notification's id.
    assert await door.knock(body) == 200
    assert await hints(connection) == [("orders", "7")]


async def test_a_notification_that_comes_again_is_not_acted_on_again(
    door: Door, connection: asyncpg.Connection
) -> None:
    body = notification()
    statuses = await asyncio.gather(*(door.knock(body) for _ in range(20)))
    assert statuses == [200] * 20
    assert door.heard == [SHOP]
    assert await connection.fetchval("SELECT version FROM sync.hints") == 1


async def test_many_notifications_at_once_are_all_kept(door: Door, connection: asyncpg.Connection) -> None:
    bodies = [notification(data={"order_id": str(n % 50)}) for n in range(300)]
    assert set(await asyncio.gather(*map(door.knock, bodies))) == {200}
    assert sorted(await hints(connection)) == sorted(("orders", str(n)) for n in range(50))
    assert await connection.fetchval("SELECT count(*) FROM sync.notifications") == 300


@pytest.mark.parametrize(
    ("members", "type_", "outcome"),
    [
        ({"type": 13}, "other", "unused"),
        ({"type": 9999, "data": None}, "other", "unused"),
        ({"type": 1, "data": []}, "1", "unused"),
        ({"type": "one"}, "other", "unreadable"),
        ({"shop_id": None}, "1", "unreadable"),
        ({"shop_id": "../etc"}, "1", "unreadable"),
        ({"shop_id": "7000000000000000000"}, "1", "unknown_shop"),
    ],
)
async def test_what_nobody_can_use_is_counted_and_answered_like_the_rest(
    door: Door, connection: asyncpg.Connection, members: dict[str, object], type_: str, outcome: str
) -> None:
    before = counted(type_, outcome)
    assert await door.tell(**members) == 200
    assert counted(type_, outcome) == before + 1
    assert await hints(connection) == []


async def test_a_paused_shops_notifications_are_counted_and_not_kept(
    door: Door, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE sync.shops SET state = 'paused'")
    assert await door.tell() == 200
    assert await hints(connection) == []


async def test_a_body_as_large_as_allowed_is_read_and_a_larger_one_is_not(door: Door) -> None:
    padding = "x" * (256 * 1024 - len(notification(padding="")) - 20)
    assert await door.tell(padding=padding) == 200
    assert await door.tell(padding="x" * 256 * 1024) == 413


async def test_a_body_without_a_length_is_bounded_too(door: Door) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    url = f"http://{door.host}:{door.port}{PATH}"
    async with aiohttp.ClientSession() as session:
        status = 0
        try:
            async with session.post(url, data=chunks(), headers={"Authorization": "0" * 64}) as answer:
                status = answer.status
        except aiohttp.ClientError:
            status = 413  # The connection was closed on whoever goes on sending.
    assert status == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.web.webhooks._READ_S", 0.2)
    reader, writer = await asyncio.open_connection(door.host, door.port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {'0' * 64}\r\nContent-Length: 100\r\n\r\n"
    )
    writer.write(head.encode() + b"{")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_refused_connection_can_be_used_again(door: Door) -> None:
    """Whoever forges by the thousand on one connection costs no new one each time."""
    reader, writer = await asyncio.open_connection(door.host, door.port)
    body = notification()
    for _ in range(3):
        writer.write(raw(body, "no"))
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"content-length: 0" in answer.lower()
    writer.close()


async def test_without_postgres_it_is_to_be_sent_again(
    door: Door, database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.web.webhooks._STORE_S", 0.5)
    body = notification()
    async with connection.transaction():
        await connection.execute("LOCK TABLE sync.notifications IN ACCESS EXCLUSIVE MODE")
        assert await door.knock(body) == 503
    assert await door.knock(body) == 200


async def test_a_database_that_is_gone_is_no_success(server_url: str, empty_database_url: str) -> None:
    async with standing(empty_database_url) as door:
        name = urlsplit(empty_database_url).path[1:]
        await execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")
        assert await door.tell() == 503
        assert door.heard == []


async def test_forgeries_make_one_line_in_the_log(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(50):
        assert await door.knock(notification(), signature="no") == 401
    assert capsys.readouterr().out.count("notifications_refused") == 1
