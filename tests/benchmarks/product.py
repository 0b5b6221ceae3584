"""shopsync as it is measured: connected shops, a backfill of their orders, rows that equal the truth."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.processes import OPTIONS, SHOPSYNC, connect_sellers
from tests.benchmarks.postgres import Server
from tests.benchmarks.processes import FailedError, Simulator, Usage, measure
from tests.support import environment_of

# The most that the setting takes; nobody gets there.
UNLIMITED = "1000"
_TRUTH = """
CREATE UNLOGGED TABLE public.truth (
    shop_id text COLLATE "C", order_id text COLLATE "C", status text, update_time bigint,
    total_amount numeric, line_items bigint)
"""
_STORED = """
SELECT o.shop_id, o.order_id, o.status, extract(epoch FROM o.update_time)::bigint, o.total_amount,
       coalesce(i.line_items, 0)
  FROM tiktok.orders AS o
  LEFT JOIN (SELECT shop_id, order_id, count(*) AS line_items
               FROM tiktok.order_line_items
              WHERE shop_id IN (SELECT shop_id FROM public.truth)
              GROUP BY 1, 2) AS i USING (shop_id, order_id)
 WHERE o.shop_id IN (SELECT shop_id FROM public.truth)
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the scenarios share: a folder, a server, and how big they are."""

    folder: Path
    server: Server

    def connect(self, url: str, simulator: Simulator) -> None:
        """Every shop of the simulator is connected in this database."""
        asyncio.run(connect_sellers(url, simulator.url))

    def backfill(self, url: str, simulator: Simulator, *, is_limited: bool = False) -> Usage:
        """The orders of all connected shops were read by a `shopsync backfill`, and are the truth."""
        environment = environment_of(url, simulator.url, OPTIONS)
        if not is_limited:
            environment["SHOPSYNC_REQUESTS_PER_SECOND"] = UNLIMITED
        usage = measure(
            [SHOPSYNC, "backfill", "--stream", "orders"],
            environment,
            folder=self.folder,
            server=self.server,
            simulator=simulator,
        )
        self.prove(url, simulator)
        return usage

    def prove(self, url: str, simulator: Simulator) -> None:
        """Every order is stored at its newest state, and nothing else. Raises FailedError otherwise."""
        self.server.script(
            url,
            _TRUTH,
            f"\\copy public.truth FROM '{simulator.truth}'",
            "ANALYZE public.truth, tiktok.orders, tiktok.order_line_items",
        )
        wrong, counted = self.server.fetch(
            url,
            f"WITH stored AS MATERIALIZED ({_STORED})"
            " SELECT (SELECT count(*) FROM (TABLE public.truth EXCEPT TABLE stored) AS missing),"
            " (SELECT count(*) FROM stored)",
        )[0]
        self.server.execute(url, "DROP TABLE public.truth")
        if wrong or counted != simulator.orders:
            raise FailedError(
                f"{wrong:,} of {simulator.orders:,} orders are missing or wrong, {counted:,} are stored"
            )
