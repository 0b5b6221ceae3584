"""Whether the copy of a shop is complete, by TikTok Shop's own counts; what is not is found and repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import structlog

from sync.engine.api import ShopApi
from sync.engine.comparison import Comparison, CountsContradictError, UncountedError
from sync.engine.comparison_io import ComparisonIO, CutShortError
from sync.engine.id_comparison import IdComparison
from sync.engine.judgement import Judgement
from sync.engine.requests import Proof, Verify
from sync.engine.run import Run
from sync.engine.tools import Tools
from sync.errors import RequestError, SliceError, StreamError
from sync.model import Record, Window
from sync.store.leases import Lease
from sync.store.proofs import Finding
from sync.streams.base import Census, Stream, TimeWindows
from sync.streams.registry import STREAMS

log = structlog.get_logger(__name__)

# A complete shop costs a request for each part: enough of them that what is missing in one is not
# made up for by what is too many in another.
_PARTS = 12
_SMALLEST_PART = 1_000
# More differences than that say as much as all of them.
_MOST_FINDINGS = 1_000
_PARKED_S = 3_600.0


class Verification:
    """Compares streams of one shop while its lease is held; ``results`` grow as it goes on."""

    def __init__(
        self,
        wish: Verify,
        *,
        api: ShopApi,
        tools: Tools,
        lease: Lease,
        run: Run,
        results: list[Proof],
    ) -> None:
        self._wish = wish
        self._io = ComparisonIO(
            api=api, sink=tools.sink, proofs=tools.proofs, lease=lease, run=run, repairs=wish.repairs
        )
        self._lookback_s = tools.settings.lookback_s
        self._history_start = tools.settings.history_start
        self._results = results

    def finish(self) -> None:
        """It ends after the request under way; what was compared is kept."""
        self._io.finish()

    async def run(self) -> None:
        """Every stream is compared, or its result says why not. Raises errors wider than a stream."""
        for name in self._wish.streams:
            proof = Proof(name)
            self._results.append(proof)
            try:
                await self._verify(STREAMS[name], proof)
            except CutShortError:
                proof.reason = "cut short; the next comparison goes on where it was"
                return
            except (StreamError, SliceError, RequestError) as error:
                proof.reason = str(error)
                log.warning("comparison_left", shop_id=self._io.shop_id, stream=name, reason=str(error))
                await self._io.proofs.postpone(self._io.shop_id, [name], due_in_s=_PARKED_S)

    async def _verify(self, stream: Stream, proof: Proof) -> None:
        shop_id, proofs = self._io.shop_id, self._io.proofs
        self._io.take_requests()
        is_windowed = isinstance(stream.slicing, TimeWindows)
        if is_windowed:
            proof.target = await self._target(stream)
        if proof.target is None and (is_windowed or await proofs.synced_until(shop_id, stream.name) is None):
            proof.reason = "nothing of it was read so far; `shopsync backfill` reads it"
            await proofs.postpone(shop_id, [stream.name], due_in_s=_PARKED_S)
            return
        gaps = await proofs.begin(shop_id, stream.name, proof.target, anew=self._wish.anew)
        uncertain = 0
        try:
            if proof.target is None:
                uncertain = await self._compare_ids(stream, proof)
            else:
                uncertain = await self._compare_counts(stream, proof, proof.target, gaps)
        except CountsContradictError as error:
            # Without its window, which ends later each time: it is the same finding as long as it lasts.
            await self._note(proof, Finding("contradictory", str(error)))
            proof.verdict, proof.reason = "contradictory", str(error)
        except UncountedError as error:
            proof.verdict, proof.reason = "uncounted", str(error)
        await self._end(proof, uncertain)

    async def _target(self, stream: Stream) -> Window | None:
        """What can be compared of what was asked for."""
        known = await self._io.proofs.target(self._io.shop_id, stream.name, lookback_s=self._lookback_s)
        if known is None:
            return None
        since = max(known.since, self._history_start, self._wish.since or known.since)
        until = min(known.until, self._wish.until or known.until)
        return Window(since, until) if since < until else None

    async def _compare_ids(self, stream: Stream, proof: Proof) -> int:
        comparison = IdComparison(stream, io=self._io)
        for finding in await comparison.compare():
            await self._note(proof, finding)
        proof.stored_rows = comparison.stored_rows
        return proof.stored_rows

    async def _compare_counts(
        self, stream: Stream, proof: Proof, target: Window, gaps: Sequence[Window]
    ) -> int:
        """Every part of the gaps is compared; the answer is what TikTok Shop counts in those that differ."""
        censuses = await self._choose_censuses(stream, target)
        uncertain = 0
        try:
            for gap in gaps:
                for part in await self._parts(censuses[0], gap):
                    uncertain += await self._compare(stream, censuses, proof, part)
                    if len(proof.open_findings) >= _MOST_FINDINGS:
                        return uncertain
            return uncertain
        finally:
            # However it ends, and after what was repaired.
            for census in censuses:
                proof.stored_rows += await self._io.books(census.name).count(target)

    async def _choose_censuses(self, stream: Stream, target: Window) -> tuple[Census, ...]:
        """The censuses, under the names of the rows that TikTok Shop counts in them.

        Nobody documents whether the search for all products shows deleted ones: one of them tells.
        """
        first, *others = stream.censuses
        if first.alias is None or not others:
            return stream.censuses
        lane = replace(stream, name=f"{stream.name} compared", page_size=1)
        sample = (await self._io.fetch(lane, others[0].body(target))).records
        created = _creation_second(sample[0]) if sample else None
        if created is None:
            return stream.censuses
        shown = (await Comparison(stream, first, io=self._io).show(created)).shown
        return (replace(first, name=first.alias), *others) if sample[0].key in shown else stream.censuses

    async def _parts(self, census: Census, gap: Window) -> list[Window]:
        """The gap in parts of about as many stored rows, newest first."""
        books = self._io.books(census.name)
        rows = max(_SMALLEST_PART, -(-await books.count(gap) // _PARTS))
        cuts = await books.cuts(gap, rows=min(rows, census.largest_part))
        bounds = [gap.since, *(cut for cut in cuts if gap.since < cut < gap.until), gap.until]
        return [Window(a, b) for a, b in pairwise(bounds)][::-1]

    async def _compare(self, stream: Stream, censuses: Sequence[Census], proof: Proof, part: Window) -> int:
        """The part is compared; the answer is what TikTok Shop counts there, unless all of it is proven."""
        comparisons = [Comparison(stream, census, io=self._io) for census in censuses]
        findings: list[Finding] = []
        # Deletions first: what is stored of them is then no row too many among the live ones.
        for comparison in reversed(comparisons):
            others = [other for other in comparisons if other is not comparison]
            judgement = Judgement(comparison, others, io=self._io)
            for difference in await comparison.look(part):
                findings += await judgement.judge(difference)
        for finding in findings:
            await self._note(proof, finding)
        is_proven = all(finding.is_repaired for finding in findings)
        counted = sum(comparison.counted for comparison in comparisons)
        await self._io.proofs.note_compared(
            self._io.shop_id,
            stream.name,
            part,
            requests=self._io.take_requests(),
            counted=counted,
            is_proven=is_proven,
        )
        return 0 if is_proven else counted

    async def _note(self, proof: Proof, finding: Finding) -> None:
        proof.findings.append(finding)
        await self._io.proofs.note_finding(self._io.shop_id, proof.stream, finding)
        log.warning(
            "difference_found",
            shop_id=self._io.shop_id,
            stream=proof.stream,
            kind=finding.kind,
            window=None if finding.window is None else str(finding.window),
            reason=finding.reason,
            repaired=finding.is_repaired,
        )

    async def _end(self, proof: Proof, uncertain: int) -> None:
        left = proof.open_findings
        if proof.verdict is None:
            proof.verdict = "incomplete" if left else "repaired" if proof.findings else "complete"
            proof.reason = left[0].reason if left else None
        proof.api_rows, proof.requests = await self._io.proofs.end(
            self._io.shop_id,
            proof.stream,
            verdict=proof.verdict,
            reason=proof.reason,
            api_rows=uncertain,
            stored_rows=proof.stored_rows,
            requests=self._io.take_requests(),
            due_in_s=self._wish.due_in_s,
        )
        facts: dict[str, Any] = {
            "shop_id": self._io.shop_id,
            "stream": proof.stream,
            "verdict": proof.verdict,
            "api_rows": proof.api_rows,
            "stored_rows": proof.stored_rows,
            "requests": proof.requests,
        }
        log.info("copy_compared", **facts)


def _creation_second(record: Record) -> Window | None:
    try:
        second = msgspec.json.decode(record.raw, type=_Created).create_time
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        since = datetime.fromtimestamp(second, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return Window(since, since + timedelta(seconds=1))


class _Created(msgspec.Struct):
    create_time: int
