"""What the tests of comparisons share."""

from __future__ import annotations

from typing import Any

from sync.app import App
from sync.engine.requests import VERIFY, Proof, RunReport, SyncRequest, Verify
from sync.streams.registry import STREAMS


async def the_shop(app: App) -> str:
    """The id of the only shop."""
    (row,) = await app.store.shops.list()
    return row.shop.shop_id


async def verify(app: App, *streams: str, **wish: Any) -> RunReport:
    """One comparison of the only shop, of all streams or of these."""
    made = Verify(streams or tuple(STREAMS), **wish)
    return await app.fleet.sync(SyncRequest(await the_shop(app), (), reason=VERIFY, verify=made))


async def compare_orders(app: App, **wish: Any) -> Proof:
    """What became of the orders' comparison."""
    (proof,) = (await verify(app, "orders", **wish)).proofs
    return proof


async def compare_products(app: App, **wish: Any) -> Proof:
    """What became of the products' comparison."""
    (proof,) = (await verify(app, "products", **wish)).proofs
    return proof
