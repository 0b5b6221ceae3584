"""What was compared with TikTok Shop's counts, what differed, and the copy's side of the comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sync.errors import FencedOutError
from sync.model import Window, whole_second
from sync.store.leases import Lease
from sync.store.pool import Database

FindingKind = Literal["missing", "rejected", "vanished", "hidden", "contradictory"]
Verdict = Literal["complete", "repaired", "incomplete", "contradictory", "uncounted"]

_MOST_KEYS = 1_000
_MOST_UNLIKE = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. ``window`` is creation time; None where it was found by ids."""

    kind: FindingKind
    reason: str
    window: Window | None = None
    api_rows: int | None = None
    stored_rows: int | None = None
    keys: tuple[str, ...] = ()
    is_repaired: bool = False


class Books:
    """Counts of stored rows by time of creation: one census of one shop."""

    def __init__(self, database: Database, shop_id: str, *, census: str) -> None:
        self._database = database
        self._shop_id = shop_id
        self._census = census

    async def count(self, window: Window) -> int:
        """How many rows were created in the window."""
        return int(await self._database.value(f"count_{self._census}", *self._range(window)))

    async def ids(self, window: Window) -> set[str]:
        """Which rows were created in the window."""
        rows = await self._database.rows(f"ids_{self._census}", *self._range(window))
        return {str(row[0]) for row in rows}

    async def cuts(self, window: Window, *, rows: int) -> list[datetime]:
        """Moments that cut the window into parts of about so many rows, oldest first."""
        found = await self._database.rows(f"cut_{self._census}", *self._range(window), rows)
        return [row["moment"] for row in found]

    def _range(self, window: Window) -> tuple[str, datetime, datetime]:
        return self._shop_id, window.since, window.until


class Proofs:
    """The tables sync.proofs and sync.findings, and what else a comparison asks of the copy."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def books(self, shop_id: str, census: str) -> Books:
        return Books(self._database, shop_id, census=census)

    async def target(self, shop_id: str, stream: str, *, lookback_s: float) -> Window | None:
        """Within which creation time everything is stored if nothing went wrong; None before the first read.

        Its end is the lookback before the end of what was read: later rows may still show up late.
        """
        rows = await self._database.rows("proof_target", shop_id, stream)
        if not rows:
            return None
        until = whole_second(rows[0]["until"] - timedelta(seconds=lookback_s))
        return Window(rows[0]["since"], until) if rows[0]["since"] < until else None

    async def synced_until(self, shop_id: str, stream: str) -> datetime | None:
        """The moment up to which the stream was read."""
        moment: datetime | None = await self._database.value("synced_until", shop_id, stream)
        return moment

    async def begin(self, shop_id: str, stream: str, target: Window | None, *, anew: bool) -> list[Window]:
        """A comparison has begun, or goes on where it was cut short: what it has to look at, newest first."""
        since, until = (None, None) if target is None else (target.since, target.until)
        rows = await self._database.rows("begin_proof", shop_id, stream, since, until, anew)
        return [Window(row["since"], row["until"]) for row in rows]

    async def note_compared(
        self, shop_id: str, stream: str, window: Window, *, requests: int, counted: int, is_proven: bool
    ) -> None:
        """The window was looked at; what was found there by earlier comparisons only is over."""
        values = (shop_id, stream, window.since, window.until, requests, is_proven, counted)
        await self._database.run("note_compared", *values)

    async def note_finding(self, shop_id: str, stream: str, finding: Finding) -> None:
        """The difference stands in the table, once."""
        window = finding.window
        await self._database.run(
            "note_finding",
            shop_id,
            stream,
            finding.kind,
            window.since if window else None,
            window.until if window else None,
            finding.api_rows,
            finding.stored_rows,
            list(finding.keys[:_MOST_KEYS]),
            finding.reason,
            finding.is_repaired,
        )

    async def end(
        self,
        shop_id: str,
        stream: str,
        *,
        verdict: Verdict,
        reason: str | None,
        api_rows: int,
        stored_rows: int,
        requests: int,
        due_in_s: float,
    ) -> tuple[int, int]:
        """The comparison has ended. What TikTok Shop counts in all, and the requests that it has cost.

        ``api_rows`` and ``requests`` are what no window accounts for.
        """
        await self._database.run("end_findings_of_ids", shop_id, stream)
        values = (shop_id, stream, verdict, reason, api_rows, stored_rows, requests, due_in_s)
        (row,) = await self._database.rows("end_proof", *values)
        return int(row["api_rows"]), int(row["requests"])

    async def postpone(self, shop_id: str, streams: Sequence[str], *, due_in_s: float) -> None:
        """The streams are not compared before that."""
        await self._database.run("postpone_proofs", shop_id, list(streams), due_in_s)

    async def ensure(self, streams: Sequence[str]) -> None:
        """Whatever was read once has its turn to be compared."""
        await self._database.run("ensure_proofs", list(streams))

    async def take_due(
        self, streams: Sequence[str], *, at_most: int, again_in_s: float
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Shops that nobody syncs now, and their streams to be compared, longest waiting first.

        They are due again after that long unless a comparison ends before.
        """
        rows = await self._database.rows("due_proofs", list(streams), at_most, again_in_s)
        return [(row["shop_id"], tuple(row["streams"])) for row in rows]

    async def set_aside(self, shop_id: str, stream: str, keys: Collection[str]) -> dict[str, str]:
        """Which of the records stand in sync.rejects, and why."""
        rows = await self._database.rows("set_aside", shop_id, stream, list(keys))
        return {row["record_id"]: row["reason"] for row in rows}

    async def unlike_stock(self, shop_id: str) -> list[str]:
        """Products whose SKUs are not those that have stock."""
        rows = await self._database.rows("unlike_stock", shop_id, _MOST_UNLIKE)
        return [str(row["product_id"]) for row in rows]

    async def stocked_skus(self, shop_id: str, product_ids: Sequence[str]) -> dict[str, set[str]]:
        """The SKUs with stock of each product."""
        found: dict[str, set[str]] = {product_id: set() for product_id in product_ids}
        for row in await self._database.rows("stocked_skus", shop_id, list(product_ids)):
            found[row["product_id"]].add(row["sku_id"])
        return found

    async def count_stocked_skus(self, shop_id: str) -> int:
        return int(await self._database.value("count_stocked_skus", shop_id))

    async def warehouse_ids(self, shop_id: str) -> set[str]:
        return {str(row[0]) for row in await self._database.rows("ids_warehouses", shop_id)}

    async def bury_products(self, lease: Lease, product_ids: Collection[str], *, as_of: datetime) -> int:
        """Products that are shown no more are marked deleted, with their SKUs and stock: so many.

        Raises FencedOutError when the lease is another's by now, and then has written nothing.
        """
        values = (lease.shop_id, sorted(product_ids), as_of, lease.owner, lease.epoch)
        buried = await self._database.value("bury_products", *values)
        if buried is None:
            lease.lost.set()
            raise FencedOutError(f"the lease of shop {lease.shop_id} was taken over")
        return int(buried)
