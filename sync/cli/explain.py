"""``shopsync explain``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from sync.app import open_store
from sync.cli.state import results_console, settings_of
from sync.errors import IncompleteError
from sync.model import Window
from sync.settings import Settings
from sync.store.origins import Origin, Read, Trouble, stream_of

_REASONS = {
    "due": "a round of the daemon",
    "backfill": "a backfill",
    "once": "a round of `run --once`",
    "notification": "a visit because of notifications",
    "verify": "a comparison",
}
_OUT_OF_TURN = {
    "notification": "a notification of TikTok Shop hinted at it",
    "reread": "it was an open order whose turn had come",
    "repair": "a comparison with TikTok Shop's counts had found it missing",
}


class Kind(StrEnum):
    """What can be explained."""

    order = "order"
    product = "product"
    sku = "sku"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync explain order 576461413038785752")(explain)


def explain(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="order, product or sku.", metavar="KIND")],
    key: Annotated[str, typer.Argument(help="Its id.", metavar="ID")],
    shop: Annotated[
        list[str] | None, typer.Option("--shop", metavar="ID", help="Only this shop; may be given again.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: a list of objects on stdout.")
    ] = False,
) -> None:
    """Tell when and by which read a record came, and what TikTok Shop said then.

    Asks the database only. Exits 1 when no shop has it.
    """
    found, troubles = asyncio.run(_explain(settings_of(context), kind, key, shop))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found or troubles], default=str, indent=2))
    else:
        console = results_console()
        told = [line for origin in found for line in _tell(kind, key, origin)]
        for line in told or [_tell_trouble(trouble) for trouble in troubles]:
            console.print(line, markup=False, soft_wrap=True)
    if not found:
        raise IncompleteError(
            f"no {kind.value} {key} is stored: `shopsync verify` compares the copy with TikTok Shop"
        )


async def _explain(
    settings: Settings, kind: Kind, key: str, shops: Sequence[str] | None
) -> tuple[list[Origin], list[Trouble]]:
    async with open_store(settings) as store:
        found = await store.origins.explain(kind.value, key, shops)
        return found, [] if found else await store.origins.troubles(shops, stream_of(kind.value), key)


def _tell(kind: Kind, key: str, origin: Origin) -> Iterator[str]:
    """What is known of the record in one shop, line by line."""
    stored = origin.stored
    yield f"{kind.value} {key} of {stored.shop_name or 'a shop without a name'} ({stored.shop_id})"
    state = stored.status or "without a status"
    if stored.deleted_at is not None:
        state += f", marked deleted as of {_when(stored.deleted_at)}"
    yield f"  stored    {state}; {stored.parts}"
    yield f"  version   created {_when(stored.create_time)}, updated {_when(stored.update_time)}"
    yield f"  came      {_when(stored.synced_at)}, asked for at {_when(stored.fetched_at)}"
    yield f"  by        {_tell_read(stored.slice_id, origin.read)}"
    if origin.reads_since:
        yield (
            f"  since     {origin.reads_since:,} reads would have shown a newer version, the last one at "
            f"{_when(origin.last_read_at)}"
        )
    if origin.proven_at is not None:
        yield f"  proven    everything of its creation time was there at {_when(origin.proven_at)}"
    for one in origin.stock:
        stock = one.stock
        yield (
            f"  warehouse {stock.warehouse_id}: {stock.available_quantity} available, "
            f"{stock.committed_quantity} committed{', gone' if stock.deleted_at else ''}; "
            f"came {_when(stock.synced_at)}, {stock.changes} rows of history"
        )
        yield f"    by      {_tell_read(stock.slice_id, one.read)}"
    for trouble in origin.troubles:
        yield f"  note      {_tell_trouble(trouble)}"


def _tell_read(slice_id: int | None, read: Read | None) -> str:
    if slice_id is None:
        return "a read of the time before reads were noted with what they stored"
    if read is None:
        return (
            f"read {slice_id}, which was never closed: its process ended, or it was given up and read again"
        )
    why = _REASONS.get(read.reason or "", "a round")
    if read.verdict == "summed":
        return (
            f"one of {read.polls:,} reads of {read.finished_at:%Y-%m-%d} that were summed up: "
            f"{read.inserted:,} new, {read.updated:,} changed"
        )
    if read.verdict in _OUT_OF_TURN:
        return (
            f"read {read.slice_id}, out of turn: {_OUT_OF_TURN[read.verdict]}; {read.walks:,} answers from "
            f"{_when(read.started_at)} to {_when(read.finished_at)} brought {read.inserted:,} new and "
            f"{read.updated:,} changed"
        )
    told = f"read {read.slice_id} of {why}"
    if read.since is not None and read.until is not None:
        told += f", updates of {Window(read.since, read.until)}"
    elif read.keys is not None:
        told += f", of {read.keys:,} products"
    told += f": {read.verdict}, {read.distinct_ids:,} shown"
    if read.first_total is not None:
        told += f"; TikTok Shop counted {read.first_total:,} before and {read.last_total:,} after"
    return f"{told}; {read.inserted:,} new, {read.updated:,} changed, {read.requests:,} requests"


def _tell_trouble(trouble: Trouble) -> str:
    return f"{trouble.trouble} ({_when(trouble.at)})"


def _when(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
