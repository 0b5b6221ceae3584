"""Streams that TikTok Shop does not count: the ids it shows are compared with those that are stored."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sync.engine.comparison_io import ComparisonIO
from sync.model import Page, Record
from sync.store.proofs import Finding
from sync.streams.base import ParentKeys, Stream


class _Id(msgspec.Struct):
    id: str = ""


class _Stock(msgspec.Struct):
    skus: list[_Id] = []


_decode_stock = msgspec.json.Decoder(_Stock, strict=False).decode


class IdComparison:
    """Compares a stream of one shop that has no count."""

    def __init__(self, stream: Stream, *, io: ComparisonIO) -> None:
        self._stream = stream
        self._io = io
        self.stored_rows = 0

    async def compare(self) -> list[Finding]:
        """Where the ids differ, repaired as far as that was wished for."""
        if isinstance(self._stream.slicing, ParentKeys):
            return await self._compare_stock(self._stream.slicing)
        return await self._compare_list()

    async def _compare_stock(self, slicing: ParentKeys) -> list[Finding]:
        """SKUs with stock must be those of the products; where they are not, TikTok Shop is asked."""
        proofs, shop_id = self._io.proofs, self._io.shop_id
        findings: list[Finding] = []
        doubtful = await proofs.unlike_stock(shop_id)
        for start in range(0, len(doubtful), slicing.size):
            findings += await self._compare_batch(slicing, tuple(doubtful[start : start + slicing.size]))
        self.stored_rows = await proofs.count_stocked_skus(shop_id)
        return findings

    async def _compare_batch(self, slicing: ParentKeys, product_ids: tuple[str, ...]) -> list[Finding]:
        page = await self._io.fetch(self._stream, slicing.body(product_ids))
        if await self._extra_skus(page):
            # Nothing passes for vanished on one answer.
            await self._io.wait_to_confirm()
            page = await self._io.fetch(self._stream, slicing.body(product_ids))
        shown = _skus_of(page.records)
        before = await self._io.proofs.stocked_skus(self._io.shop_id, list(shown))
        unlike = {product_id for product_id, skus in shown.items() if skus != before[product_id]}
        if unlike and self._io.repairs:
            await self._io.store(self._stream, (r for r in page.records if r.key in unlike), page.fetched_at)
        after = await self._io.proofs.stocked_skus(self._io.shop_id, list(shown))
        return [
            finding
            for product_id in sorted(unlike)
            for finding in _explain(
                product_id,
                shown[product_id],
                before[product_id],
                is_repaired=after[product_id] == shown[product_id],
            )
        ]

    async def _extra_skus(self, page: Page) -> bool:
        shown = _skus_of(page.records)
        stored = await self._io.proofs.stocked_skus(self._io.shop_id, list(shown))
        return any(stored[product_id] - skus for product_id, skus in shown.items())

    async def _compare_list(self) -> list[Finding]:
        """The whole list is one answer."""
        page = await self._io.fetch(self._stream, None)
        stored = await self._io.proofs.warehouse_ids(self._io.shop_id)
        if stored - _keys(page):
            await self._io.wait_to_confirm()
            page = await self._io.fetch(self._stream, None)
        shown = _keys(page)
        if shown != stored and self._io.repairs:
            await self._io.store(self._stream, page.records, page.fetched_at)
        after = await self._io.proofs.warehouse_ids(self._io.shop_id)
        self.stored_rows = len(after)
        return _explain("", shown, stored, is_repaired=after == shown)


def _keys(page: Page) -> set[str]:
    return {record.key for record in page.records if record.key is not None}


def _skus_of(records: Iterable[Record]) -> dict[str, set[str]]:
    """The SKUs of each product that can be read."""
    found = {}
    for record in records:
        try:
            stock = _decode_stock(record.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # The rounds have set it aside, or will.
        if record.key is not None and stock.skus:
            found[record.key] = {sku.id for sku in stock.skus}
    return found


def _explain(owner: str, shown: set[str], stored: set[str], *, is_repaired: bool) -> list[Finding]:
    of = f" of product {owner}" if owner else ""
    findings = []
    if missing := sorted(shown - stored):
        reason = f"{len(missing)}{of} shown by TikTok Shop and not stored"
        findings.append(Finding("missing", reason, keys=tuple(missing), is_repaired=is_repaired))
    if extra := sorted(stored - shown):
        reason = f"{len(extra)}{of} stored and not shown by TikTok Shop any more"
        findings.append(Finding("vanished", reason, keys=tuple(extra), is_repaired=is_repaired))
    return findings
