"""``shopsync shops``: connect sellers, list their shops, pause, resume, disconnect."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from sync.app import open_store
from sync.cli import connect
from sync.cli.state import results_console, settings_of
from sync.errors import SettingsError
from sync.settings import Settings
from sync.store.shops import ShopRow
from sync.store.tokens import ENDS_SOON, ends_soon

app = typer.Typer(
    help="Connect sellers, list their shops, pause, resume, disconnect.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


connect.register(app)

ShopId = Annotated[str, typer.Argument(metavar="ID", help="The shop's id, as `shops list` shows it.")]


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the connected shops."""
    rows, waiting = asyncio.run(_list(settings_of(context)))
    if waiting:
        typer.echo(
            f"{waiting} seller(s) consented unasked and wait to be confirmed: open /oauth/waiting of the "
            "daemon's web server",
            err=True,
        )
    if not rows:
        typer.echo("no shop is connected yet: run `shopsync shops connect`, or try `shopsync demo`")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("shop", "name", "region", "app", "seller", "state", "consent ends", "note"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("shop", "state"))
    for row in rows:
        ends = f"{row.refresh_expires_at:%Y-%m-%d}" if row.refresh_expires_at else ""
        shop = row.shop
        table.add_row(
            shop.shop_id,
            shop.name,
            shop.region,
            shop.app,
            row.seller_name,
            shop.state,
            ends,
            row.state_reason or (ENDS_SOON if ends_soon(row.refresh_expires_at) else ""),
        )
    results_console().print(table, markup=False)


@app.command()
def pause(context: typer.Context, shop_id: ShopId) -> None:
    """Stop syncing a shop; what is stored stays."""
    asyncio.run(_set_state(settings_of(context), shop_id, resume=False))
    typer.echo(f"paused {shop_id}: `shopsync shops resume {shop_id}` goes on where it stopped")


@app.command()
def resume(context: typer.Context, shop_id: ShopId) -> None:
    """Go on syncing a shop; nothing is missed, only late."""
    asyncio.run(_set_state(settings_of(context), shop_id, resume=True))
    typer.echo(f"resumed {shop_id}: it is due now")


@app.command()
def disconnect(context: typer.Context, shop_id: ShopId) -> None:
    """Stop syncing a shop and forget its tokens; its rows stay in the tables."""
    asyncio.run(_disconnect(settings_of(context), shop_id))
    typer.echo(f"disconnected {shop_id}: its rows stay; connect it again with `shopsync shops connect`")


async def _list(settings: Settings) -> tuple[list[ShopRow], int]:
    """The shops, and how many sellers wait to be confirmed."""
    async with open_store(settings) as store:
        return await store.shops.list(), len(await store.consents.waiting())


async def _set_state(settings: Settings, shop_id: str, *, resume: bool) -> None:
    async with open_store(settings) as store:
        rows = await store.shops.list([shop_id])
        if not rows:
            raise _unknown(shop_id)
        state = rows[0].shop.state
        if state in ("needs_reauth", "disconnected") and resume:
            raise SettingsError(
                f"shop {shop_id} is {state}: run `shopsync shops connect`, a new consent is needed"
            )
        if state == "disconnected":
            raise SettingsError(f"shop {shop_id} is disconnected already")
        if resume:
            await store.shops.set_state(shop_id, "active")
            await store.cursors.make_due(shop_id)
        else:
            await store.shops.pause(shop_id)


async def _disconnect(settings: Settings, shop_id: str) -> None:
    async with open_store(settings) as store:
        if not await store.shops.disconnect(shop_id):
            raise _unknown(shop_id)


def _unknown(shop_id: str) -> SettingsError:
    return SettingsError(f"no connected shop has the id {shop_id}: `shopsync shops list` shows them")
