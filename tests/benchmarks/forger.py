"""Sends notifications that nobody signed, and says how long each refusal took.

    python -m tests.benchmarks.forger URL --rate 2000 --seconds 10

Plain sockets that stay open, so that what is measured is the server. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from urllib.parse import urlsplit

from tests.benchmarks.report import quantile

_CONNECTIONS = 16
_BODY = json.dumps(
    {
        "type": 1,
        "tts_notification_id": "7380066284010030890",
        "shop_id": "7495540735365777507",
        "timestamp": 1718305585,
        "data": {"order_id": "576653688135258178", "order_status": "UNPAID", "update_time": 1718305585},
    }
).encode()


async def main(url: str, rate: float, seconds: float) -> None:
    """Well-formed signatures, so that the body has to be read and its own computed."""
    taken: list[float] = []
    statuses: dict[str, int] = {}
    clock = asyncio.get_running_loop().time
    began = clock()

    async def forge(number: int) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        count = 0
        while (due := began + (number + count * _CONNECTIONS) / rate) < began + seconds:
            await asyncio.sleep(due - clock())
            head = (
                f"POST /webhooks/tiktok HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: {secrets.token_hex(32)}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(_BODY)}\r\n\r\n"
            )
            writer.write(head.encode() + _BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            # From when it should have left: who waits for an answer before it can send counts that wait.
            taken.append(clock() - due)
            status = answer[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            count += 1
        writer.close()

    async with asyncio.TaskGroup() as group:
        for number in range(_CONNECTIONS):
            group.create_task(forge(number))
    sent_per_s = len(taken) / (clock() - began)
    print(
        json.dumps(
            {
                "statuses": statuses,
                "per_second": sent_per_s,
                "p50_ms": quantile(taken, 0.5) * 1000,
                "p99_ms": quantile(taken, 0.99) * 1000,
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--seconds", type=float, default=10)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.url, chosen.rate, chosen.seconds))
