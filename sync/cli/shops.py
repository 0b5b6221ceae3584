"""``shopsync shops``: connect sellers, list their shops, pause, resume, disconnect."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

import typer
from rich.table import Table

from sync.app import open_app, open_store
from sync.cli.state import results_console, settings_of
from sync.errors import NeedsReauthError, SettingsError
from sync.model import AuthorizedShop
from sync.settings import DEFAULT_APP, Settings
from sync.store.shops import ShopRow
from sync.tiktok.oauth import consent_url

app = typer.Typer(
    help="Connect sellers, list their shops, pause, resume, disconnect.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


ShopId = Annotated[str, typer.Argument(metavar="ID", help="The shop's id, as `shops list` shows it.")]


@app.command(epilog="Example:  shopsync shops connect --code ROW_Fe0AAAAA...")
def connect(
    context: typer.Context,
    code: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="The code from the address that the seller was redirected to."),
    ] = None,
    app_name: Annotated[
        str, typer.Option("--app", metavar="NAME", help="Which app of the settings the seller consented to.")
    ] = DEFAULT_APP,
) -> None:
    """Connect every shop of a seller who consented.

    Without --code it prints the consent page's address; open it as the seller, allow the access,
    and run the command again with the code from the address you end up at.
    """
    settings = settings_of(context)
    settings.app(app_name)
    if code is None:
        _print_consent(settings, app_name)
        return
    shops = asyncio.run(_connect(settings, code.strip(), app_name))
    console = results_console()
    for shop in shops:
        console.print(f"connected {shop.shop_id}  {shop.name} ({shop.region})", markup=False)
    console.print("Next: `shopsync backfill` for history, or `shopsync run` to keep the copy true.")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the connected shops."""
    rows = asyncio.run(_list(settings_of(context)))
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
            row.state_reason or "",
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


async def _connect(settings: Settings, code: str, app_name: str) -> list[AuthorizedShop]:
    async with open_app(settings) as opened:
        try:
            return await opened.onboarding.connect(code, app=app_name)
        except NeedsReauthError as error:
            raise SettingsError(f"--code: {error}") from error


async def _list(settings: Settings) -> list[ShopRow]:
    async with open_store(settings) as store:
        return await store.shops.list()


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


def _print_consent(settings: Settings, app_name: str) -> None:
    app_settings = settings.app(app_name)
    if not app_settings.service_id:
        name = "SHOPSYNC_SERVICE_ID" if app_name == DEFAULT_APP else f"apps.{app_name}.service_id"
        raise SettingsError(
            f"{name} must be set to build the consent link: see Partner Center > App & Service > your app"
        )
    state = secrets.token_urlsafe(32)
    typer.echo("Open this as the seller, allow the access, and copy `code` from the address you end up at:")
    typer.echo(f"  {consent_url(app_settings.service_id, state, host=app_settings.consent_url)}")
    typer.echo("Then, within 30 minutes:  shopsync shops connect --code CODE")
