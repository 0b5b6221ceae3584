"""``shopsync verify``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.app import App, open_app
from sync.cli.state import read_moment, results_console, run_until_signal, settings_of
from sync.cli.syncing import choose_shops, require_an_app, stop_fleet
from sync.engine.fleet import new_report
from sync.engine.requests import VERIFY, Proof, RunReport, SyncRequest, Verify
from sync.errors import IncompleteError, SettingsError
from sync.settings import Settings
from sync.store.proofs import Finding
from sync.streams.registry import STREAMS, select_streams

_MOST_FINDINGS = 20
_MOST_KEYS = 5
_STYLES = {"complete": "green", "repaired": "green", "incomplete": "red", "contradictory": "yellow"}


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync verify --stream orders --since 2026-01-01 --repair")(verify)


def verify(
    context: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Read what is missing, and mark what has vanished as deleted.")
    ] = False,
    shop: Annotated[
        list[str] | None, typer.Option("--shop", metavar="ID", help="Only this shop; may be given again.")
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream", metavar="NAME", help=f"Only this stream; may be given again. {', '.join(STREAMS)}."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was created from then on (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was created before then (UTC).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: a list of objects on stdout.")
    ] = False,
) -> None:
    """Prove the copy complete against TikTok Shop's own counts, and find what is missing.

    Counts cost a request each; only where they differ are rows looked at. Exits 0 only if nothing is
    missing.
    """
    settings = settings_of(context)
    begin, end = read_moment(since, "--since"), read_moment(until, "--until")
    if begin and end and begin >= end:
        raise SettingsError(f"--since {since} is not before --until {until}")
    wish = Verify(tuple(s.name for s in select_streams(stream)), repairs=repair, since=begin, until=end)
    request = SyncRequest("", (), reason=VERIFY, verify=wish)
    reports = asyncio.run(run_until_signal(lambda stopping: _verify(settings, shop, request, stopping)))
    if as_json:
        shown = [_facts(report, proof) for report in reports for proof in report.proofs]
        typer.echo(json.dumps(shown, default=str, indent=2))
    else:
        _print(results_console(), reports)
    problems = [line for report in reports for line in _problems(report)]
    if problems:
        raise IncompleteError("\n".join(problems))


async def _verify(
    settings: Settings, shops: Sequence[str] | None, request: SyncRequest, stopping: asyncio.Event
) -> list[RunReport]:
    require_an_app(settings)
    async with open_app(settings) as opened:
        await opened.store.credentials.check_key()
        chosen = await choose_shops(opened, shops)
        return await _compare(opened, chosen, request, stopping)


async def _compare(
    opened: App, shops: Sequence[tuple[str, str]], request: SyncRequest, stopping: asyncio.Event
) -> list[RunReport]:
    requests = [request.of(shop_id) for shop_id, _ in shops]
    reports = [new_report(r, name) for r, (_, name) in zip(requests, shops, strict=True)]

    stop = asyncio.create_task(stop_fleet(opened, stopping))
    try:
        await opened.fleet.sync_all(requests, reports=reports, wait_for_lease=True)
    finally:
        stop.cancel()
    return reports


def _print(console: Console, reports: Sequence[RunReport]) -> None:
    for report in reports:
        console.print(Text(f"{report.name or 'unnamed'}  ", style="bold").append(report.shop_id, style="dim"))
        table = Table(box=None, header_style="dim")
        table.add_column("stream", min_width=10)
        for heading in ("TikTok Shop", "stored", "requests"):
            table.add_column(heading, justify="right", min_width=9)
        table.add_column("verdict", overflow="fold")
        for proof in report.proofs:
            table.add_row(
                proof.stream,
                f"{proof.api_rows:,}" if proof.verdict and proof.target else "",
                f"{proof.stored_rows:,}" if proof.verdict else "",
                f"{proof.requests:,}",
                Text(_told(proof), style=_STYLES.get(proof.verdict or "", "yellow")),
            )
        console.print(table)
        for proof in report.proofs:
            for finding in proof.findings[:_MOST_FINDINGS]:
                console.print(Text(f"  {proof.stream}: {_tell(finding)}"), soft_wrap=True)
            left = len(proof.findings) - _MOST_FINDINGS
            if left > 0:
                console.print(Text(f"  {proof.stream}: and {left:,} more, see sync.findings"))
        console.print(Text())


def _told(proof: Proof) -> str:
    told: str = proof.verdict or "not compared"
    if proof.verdict in (None, "contradictory", "uncounted"):
        told += f": {proof.reason}"
    if proof.target is not None:
        told += f"; created {proof.target.since:%Y-%m-%d} to {proof.target.until:%Y-%m-%d %H:%M:%S} UTC"
    return told


def _tell(finding: Finding) -> str:
    told: str = finding.kind
    if finding.window is not None:
        told += f" in {finding.window}"
    told += f": {finding.reason}"
    if finding.keys:
        keys = ", ".join(finding.keys[:_MOST_KEYS])
        left = len(finding.keys) - _MOST_KEYS
        told += f" ({keys}{f' and {left:,} more' if left > 0 else ''})"
    return f"{told}; repaired" if finding.is_repaired else told


def _facts(report: RunReport, proof: Proof) -> dict[str, object]:
    return {"shop_id": report.shop_id, "name": report.name} | asdict(proof)


def _problems(report: RunReport) -> list[str]:
    heading = f"{report.shop_id} {report.name}".strip()
    problems = [f"{heading}: {problem}" for problem in report.problems]
    for proof in report.proofs:
        if proof.verdict not in ("complete", "repaired"):
            said = proof.verdict or "not compared"
            problems.append(f"{heading} {proof.stream} is {said}: {proof.reason}")
    if not problems and report.outcome != "complete":
        problems.append(f"{heading} was not compared to the end: {report.outcome}")
    return problems
