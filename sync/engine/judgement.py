"""What a difference between TikTok Shop's counts and the copy's means, and how it is mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from sync.engine.comparison import Comparison, Difference
from sync.engine.comparison_io import ComparisonIO
from sync.engine.walk import Walk
from sync.model import Record, epoch
from sync.store.proofs import Finding

log = structlog.get_logger(__name__)


class Judgement:
    """Judges differences of one census; ``others`` are the stream's other ones.

    What was missing is stored. What TikTok Shop shows no more is marked deleted where the stream has
    deletions, once two answers some time apart agree.
    """

    def __init__(self, comparison: Comparison, others: Sequence[Comparison], *, io: ComparisonIO) -> None:
        self._comparison = comparison
        self._others = others
        self._io = io

    async def judge(self, found: Difference) -> list[Finding]:
        """The findings, repaired as far as that was wished for; none when all of it is on its way."""
        finding = Finding(
            "missing", "", window=found.window, api_rows=found.api_rows, stored_rows=found.stored_rows
        )
        if found.is_hole:
            return [await self._fill(finding, found)]
        findings = await self._judge_missing(finding, found)
        if found.unnamed:
            reason = f"{found.unnamed} shown without an id; sync.rejects has them"
            findings.append(replace(finding, kind="rejected", reason=reason))
        if found.hidden:
            reason = f"TikTok Shop counts {found.hidden} more than it shows"
            findings.append(replace(finding, kind="hidden", reason=reason))
        if found.extra:
            findings += await self._judge_extra(replace(finding, kind="vanished"), found)
        return findings

    async def _judge_missing(self, finding: Finding, found: Difference) -> list[Finding]:
        shop_id, stream = self._io.shop_id, self._comparison.stream
        missing = await self._without_pending(found.missing)
        if not missing:
            return []
        aside = await self._io.proofs.set_aside(shop_id, stream.name, list(missing))
        findings = [
            replace(finding, kind="rejected", reason=f"set aside in sync.rejects: {reason}", keys=(key,))
            for key, reason in sorted(aside.items())
        ]
        lost = {key: record for key, record in missing.items() if key not in aside}
        if lost:
            repaired = self._io.repairs and await self._restore(found, lost)
            reason = f"{len(lost)} shown by TikTok Shop and not stored"
            findings.append(replace(finding, reason=reason, keys=tuple(sorted(lost)), is_repaired=repaired))
        return findings

    async def _without_pending(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Those that should have been stored; what has changed since the last round is on its way."""
        horizon = await self._io.proofs.synced_until(self._io.shop_id, self._comparison.stream.name)
        return {
            key: record
            for key, record in records.items()
            if record.time is None or horizon is None or record.time < epoch(horizon)
        }

    async def _restore(self, found: Difference, lost: dict[str, Record]) -> bool:
        """True when the records are stored now, which the copy is asked for."""
        if found.fetched_at is None:
            return False
        await self._io.store(self._comparison.stream, lost.values(), found.fetched_at)
        return lost.keys() <= await self._comparison.books.ids(found.window)

    async def _fill(self, finding: Finding, found: Difference) -> Finding:
        """Too many rows to be named: all that is shown there is stored, page by page."""
        if found.rows < 0:
            reason = f"TikTok Shop counts {found.api_rows} where {found.stored_rows} are stored"
            return replace(finding, kind="vanished", reason=reason)
        finding = replace(finding, reason=f"{found.rows} counted by TikTok Shop and not stored")
        if not self._io.repairs:
            return finding
        async for page in self._comparison.pages(found.window, Walk()):
            await self._io.store(self._comparison.stream, page.records, page.fetched_at)
        stored = await self._comparison.books.count(found.window)
        return replace(finding, is_repaired=stored == await self._comparison.count(found.window))

    async def _judge_extra(self, finding: Finding, found: Difference) -> list[Finding]:
        """Rows that are stored and not shown. Those that another census shows are for that one to judge."""
        extra = set(found.extra)
        for other in self._others:
            extra -= (await other.show(found.window)).shown.keys()
        if not extra:
            return []
        repaired = self._io.repairs and bool(self._others) and await self._bury(found, extra)
        reason = f"{len(extra)} stored and not shown by TikTok Shop any more"
        return [replace(finding, reason=reason, keys=tuple(sorted(extra)), is_repaired=repaired)]

    async def _bury(self, found: Difference, extra: set[str]) -> bool:
        """True when they are marked deleted, which takes a second answer like the first."""
        await self._io.wait_to_confirm()
        listings = [await one.show(found.window) for one in (self._comparison, *self._others)]
        as_of = min(listing.fetched_at for listing in listings)
        are_whole = all(listing.seen == listing.total for listing in listings)
        if not are_whole or any(extra & listing.shown.keys() for listing in listings):
            return False
        buried = await self._io.proofs.bury_products(self._io.lease, extra, as_of=as_of)
        log.info("products_vanished", shop_id=self._io.shop_id, products=buried)
        return buried == len(extra)
