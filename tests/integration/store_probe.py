"""What the tests of the store share: pages to write, and a second process that can be stopped or killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync.model import Page, Record, Tally, Window
from sync.store.leases import Lease, LeaseKeeper
from sync.store.ledger import Closing
from sync.store.page_writer import Target

ROOT = Path(__file__).parents[2]
SHOP = "7000714532876273420"
T0 = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = Target(stream="orders", statement="store_orders")
PRODUCTS = Target(stream="products", statement="store_products")
INVENTORY = Target(stream="inventory", statement="store_inventory")
WAREHOUSES = Target(stream="warehouses", statement="store_warehouses", divisible=False)

Json = dict[str, Any]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def window(since: int, until: int) -> Window:
    return Window(at(since), at(until))


def order(order_id: str, *, updated: int = 0, **changes: Any) -> Json:
    """An order as the API would send it, as small as can be."""
    return {
        "id": order_id,
        "status": "UNPAID",
        "create_time": int(T0.timestamp()),
        "update_time": int(at(updated).timestamp()),
        "payment": {"currency": "GBP", "total_amount": "1.00"},
        "line_items": [{"id": f"{order_id}-1", "sale_price": "1.00", "currency": "GBP"}],
        **changes,
    }


def product(product_id: str, *, updated: int = 0, **changes: Any) -> Json:
    """A product as the API would send it, as small as can be."""
    return {
        "id": product_id,
        "status": "ACTIVATE",
        "update_time": int(at(updated).timestamp()),
        "skus": [{"id": f"{product_id}-1", "price": {"currency": "GBP", "sale_price": "1.00"}}],
        **changes,
    }


def stock(product_id: str, *, available: object = 5, **changes: Any) -> Json:
    """The stock of a product with one SKU in one warehouse, as the API would send it."""
    level = {"warehouse_id": "w", "available_quantity": available, "committed_quantity": 0}
    sku = {"id": f"{product_id}-1", "warehouse_inventory": [level]}
    return {"product_id": product_id, "skus": [sku], **changes}


def page(records: Iterable[Json | Record], *, fetched: float = 0) -> Page:
    made = tuple(
        one
        if isinstance(one, Record)
        else Record(key=one.get("id", one.get("product_id")), raw=json.dumps(one).encode())
        for one in records
    )
    return Page(records=made, next_token=None, total=len(made), fetched_at=at(fetched))


def counts(tally: Tally) -> dict[str, int]:
    """What became of the records, without what happened to none."""
    return {
        name: n
        for name in ("inserted", "updated", "stale", "unchanged", "rejected")
        if (n := getattr(tally, name))
    }


def closing(since: int, until: int, *, settled: int = 10**9, **changes: Any) -> Closing:
    values: dict[str, Any] = {
        "run_id": 1,
        "slice_": window(since, until),
        "verdict": "clean",
        "started_at": T0,
        "settled_until": at(settled),
    }
    return Closing(**values | changes)


async def hold(keeper: LeaseKeeper, shop_id: str = SHOP) -> Lease:
    """The shop's lease, which must be free."""
    lease = await keeper.acquire(shop_id)
    assert lease is not None
    return lease


class OtherProcess:
    """A process of its own that does one thing at a time when told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        assert line, "the other process ended"
        return line.decode().strip()

    async def ask(self, command: str) -> str:
        await self.tell(command)
        return await self.hear()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def other_process(
    *arguments: str, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[OtherProcess]:
    """Runs store_process.py; it is gone when the context ends, whatever state it is in."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.store_process",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(environment) | {"PYTHONPATH": str(ROOT)},
    )
    other = OtherProcess(process)
    try:
        yield other
    finally:
        await other.kill()
