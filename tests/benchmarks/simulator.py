"""The simulator of a measurement, in a process of its own: nothing in its world moves.

    python -m tests.benchmarks.simulator --orders 100000 --truth truth.tsv

Prints one line of JSON once it answers. `shopsync simulator` is not used: it mutates, its history
ends at this moment, and it cannot tell the truth about a million orders in a few bytes each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from sync.simulator.options import SimulatorOptions
from sync.simulator.server import serve
from sync.simulator.world import World, build_world

# The last seconds before now are left for the next round: a history that ends earlier is read whole.
_AGE_S = 120


async def main(chosen: argparse.Namespace) -> None:
    """Serves until SIGTERM."""
    # TikTok's servers do not wait for the worker's processor: when a request arrives is measured here.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    world = build_world(
        seed=11,
        shops=chosen.shops,
        orders_per_shop=chosen.orders,
        products_per_shop=50,
        history_days=365,
        flash_sale_orders=chosen.orders // 20,
        now=time.time() - _AGE_S,
    )
    _write_truth(world, chosen.truth)
    # A million orders are as many objects that the collector would look at again and again.
    gc.collect()
    gc.freeze()
    running = await serve(world, options=SimulatorOptions(limit_per_s=0))
    shops = [
        {"shop_id": shop.shop_id, "cipher": shop.cipher, "seller": shop.seller.open_id}
        for shop in world.shops.values()
    ]
    print(json.dumps({"url": running.url, "shops": shops}), flush=True)
    await stopping.wait()
    await running.close()


class _Payment(msgspec.Struct):
    total_amount: str


class _Order(msgspec.Struct):
    id: str
    status: str
    update_time: int
    payment: _Payment
    line_items: list[msgspec.Raw]


def _write_truth(world: World, path: Path) -> None:
    """One line per order: shop, id, status, update time, total, number of line items."""
    decode = msgspec.json.Decoder(_Order).decode
    with path.open("w") as lines:
        for shop in world.shops.values():
            for body in shop.orders.bodies():
                order = decode(body)
                words = (
                    shop.shop_id,
                    order.id,
                    order.status,
                    order.update_time,
                    order.payment.total_amount,
                    len(order.line_items),
                )
                lines.write("\t".join(map(str, words)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shops", type=int, default=1)
    parser.add_argument("--orders", type=int, default=10_000, help="per shop")
    parser.add_argument("--truth", type=Path, required=True)
    asyncio.run(main(parser.parse_args()))
