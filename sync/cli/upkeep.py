"""``shopsync migrate`` and ``shopsync status``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.app import open_postgres, open_store
from sync.cli.state import results_console, settings_of
from sync.settings import Settings
from sync.store.hints import RereadCost, reread_requests_per_hour
from sync.store.migrations import migrate_database
from sync.store.status import StreamStatus
from sync.store.tokens import ENDS_SOON, ends_soon
from sync.streams.registry import STREAMS


def register(app: typer.Typer) -> None:
    app.command()(migrate)
    app.command(epilog="Example:  shopsync status --json | jq '.[] | select(.lag_s > 600)'")(status)


def migrate(context: typer.Context) -> None:
    """Bring the database to this version.

    Safe to run twice and from two processes at once. A newer database is refused.
    """
    applied = asyncio.run(_migrate(settings_of(context)))
    typer.echo("\n".join(f"applied {name}" for name in applied) or "the database is up to date")


def status(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: a list of objects on stdout.")
    ] = False,
) -> None:
    """Show for every shop and stream until when it is synced, and what is wrong."""
    settings = settings_of(context)
    rows, costs = asyncio.run(_status(settings))
    round_s = settings.reread_open_orders_s
    if as_json:
        shown = [asdict(row) | _costs_of(row.shop_id, costs, round_s=round_s) for row in rows]
        typer.echo(json.dumps(shown, default=str, indent=2))
    elif not rows:
        typer.echo("no shop is connected yet: run `shopsync shops connect`, or try `shopsync demo`")
    else:
        print_status(results_console(), rows, costs, round_s=round_s)


def print_status(
    console: Console,
    rows: Sequence[StreamStatus],
    costs: Mapping[str, RereadCost] | None = None,
    *,
    round_s: float = 0,
) -> None:
    """What `status` shows to a person: a line for each shop, a table of its streams and costs below."""
    for _, group in groupby(rows, key=lambda row: row.shop_id):
        streams = list(group)
        shop = streams[0]
        heading = Text(f"{shop.name or 'unnamed'} ({shop.region})", style="bold")
        heading.append(f"  {shop.shop_id}  {shop.requests_per_second:.1f} requests/s", style="not bold dim")
        console.print(heading, soft_wrap=True)
        if shop.state != "active":
            # Once: in the column of each stream it would fill a narrow terminal four times over.
            state = Text(f"  {shop.state}: {shop.state_reason or ''}".rstrip(": "), style=_state(shop)[1])
            console.print(state, soft_wrap=True)
        if shop.consent_ends_at and ends_soon(shop.consent_ends_at):
            warning = f"  the consent ends on {shop.consent_ends_at:%Y-%m-%d}: {ENDS_SOON}"
            console.print(Text(warning, style="yellow"), soft_wrap=True)
        console.print(_stream_table(streams))
        if costs and shop.shop_id in costs:
            told = tell_cost(costs[shop.shop_id], round_s=round_s)
            console.print(Text(told, style="dim"), soft_wrap=True)
        console.print(Text())


def tell_cost(cost: RereadCost, *, round_s: float) -> str:
    """What reading open orders again takes of the shop's requests, and what waits to be read."""
    per_hour = reread_requests_per_hour(cost.open_orders, round_s=round_s)
    rereads = (
        f"read again every {duration(round_s)}: {per_hour:,.1f} requests/h" if round_s else "not read again"
    )
    last = (
        ""
        if cost.last_reread_round_s is None or not round_s
        else f", last round {duration(cost.last_reread_round_s)}"
    )
    return (
        f"{cost.open_orders:,} open orders, {rereads}{last}; {cost.hints_waiting:,} changes wait to be read"
    )


def _costs_of(shop_id: str, costs: Mapping[str, RereadCost], *, round_s: float) -> dict[str, object]:
    """The same for programs, on each row of the shop."""
    cost = costs.get(shop_id) or RereadCost(shop_id, 0, None, None, 0)
    per_hour = reread_requests_per_hour(cost.open_orders, round_s=round_s)
    return asdict(cost) | {"reread_requests_per_hour": round(per_hour, 2)}


def _stream_table(rows: Sequence[StreamStatus]) -> Table:
    table = Table(box=None, header_style="dim")
    table.add_column("stream", min_width=10)
    table.add_column("synced until (UTC)", min_width=19)
    table.add_column("lag", justify="right", min_width=11)
    table.add_column("rows", justify="right", min_width=9)
    table.add_column("compared", justify="right", min_width=8)
    table.add_column("state", overflow="fold")
    for row in rows:
        state, style = _state(row)
        if row.rejects:
            state += f"; {row.rejects:,} records could not be stored, see sync.rejects"
        if row.findings:
            state += f"; {row.findings:,} differences from TikTok Shop: run `shopsync verify`"
        table.add_row(
            row.stream,
            f"{row.synced_until:%Y-%m-%d %H:%M:%S}" if row.synced_until else "never",
            duration(row.lag_s),
            f"{row.rows:,}" if row.rows is not None else "",
            _compared(row),
            Text(state, style=style),
        )
    return table


def _compared(row: StreamStatus) -> Text:
    """What the newest comparison with TikTok Shop's counts has said."""
    if row.verdict is None:
        return Text("not yet", style="dim")
    if row.findings:
        return Text("differs", style="red")
    return Text(row.verdict, style="green" if row.verdict in ("complete", "repaired") else "yellow")


def duration(seconds: float | None) -> str:
    """A length of time for people, in its two largest units."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _state(row: StreamStatus) -> tuple[str, str]:
    if row.state != "active":
        return "waits", "yellow" if row.state == "paused" else "red"
    if row.parked_reason:
        return f"parked: {row.parked_reason}", "yellow"
    if row.last_error:
        return f"failed {row.failures}x: {row.last_error}", "red"
    if row.synced_by:
        return f"syncing ({row.synced_by})", "cyan"
    return "ok" if row.succeeded_at else "not synced yet", "green" if row.succeeded_at else "yellow"


async def _migrate(settings: Settings) -> list[str]:
    async with open_postgres(settings) as (url, _):
        return await migrate_database(url)


async def _status(settings: Settings) -> tuple[list[StreamStatus], dict[str, RereadCost]]:
    async with open_store(settings) as store:
        costs = {cost.shop_id: cost for cost in await store.hints.costs()}
        return await store.status.read(list(STREAMS)), costs
