"""``shopsync webhooks``: where TikTok Shop sends the notifications of each shop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from sync.app import App, open_app
from sync.cli.state import settings_of
from sync.engine.registrations import (
    ONLY_IN_PARTNER_CENTER,
    RECEIVER_PATH,
    Change,
    check_receiver,
    most_local_api,
    receiver_address,
)
from sync.errors import IncompleteError, SettingsError, SyncError
from sync.model import Shop
from sync.settings import Settings
from sync.store.shops import ShopRow
from sync.tiktok.webhooks import Registration

_AT_ONCE = 16

app = typer.Typer(
    help="Say where TikTok Shop sends the notifications of each shop.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Shops = Annotated[
    list[str] | None, typer.Option("--shop", metavar="ID", help="Only this shop; may be repeated.")
]
AppName = Annotated[
    str | None, typer.Option("--app", metavar="NAME", help="Only shops that this app connected.")
]


@app.callback(invoke_without_command=True)
def _explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command(epilog="Example:  shopsync webhooks register --shop 7494049642642441621")
def register(
    context: typer.Context,
    shop: Shops = None,
    app_name: AppName = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help=f"The whole address; if absent, web.public_url and {RECEIVER_PATH}."
        ),
    ] = None,
) -> None:
    """Send each shop's notifications to this shopsync.

    Only what differs is sent, so it may be repeated. It stands above the app's own URL in Partner Center.
    """
    settings = settings_of(context)
    wanted = url or _own_address(settings)
    check_receiver(wanted, option="--url", api_url=most_local_api(settings))

    async def work(opened: App, shop: Shop) -> str:
        address = check_receiver(wanted, option="--url", api_url=_api_url(settings, shop.app))
        return _describe_registered(await opened.registrations.register(shop, address))

    try:
        asyncio.run(_for_each(settings, shop, app_name, work))
    finally:
        types = ", ".join(f"{number} ({name})" for number, name in ONLY_IN_PARTNER_CENTER.items())
        typer.echo(
            f"The API does not take the types {types}: switch them on in Partner Center > your app > "
            f"Webhooks, with the URL {wanted}",
            err=True,
        )


@app.command("list")
def list_(context: typer.Context, shop: Shops = None, app_name: AppName = None) -> None:
    """Show what is registered for each shop; the app's own URL in Partner Center does not show here."""

    async def work(opened: App, shop: Shop) -> str:
        return _describe_list(await opened.registrations.list(shop))

    asyncio.run(_for_each(settings_of(context), shop, app_name, work))


@app.command()
def remove(
    context: typer.Context,
    shop: Shops = None,
    app_name: AppName = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help=f"What to take away; if absent, every address that ends in {RECEIVER_PATH}."
        ),
    ] = None,
) -> None:
    """Take away the registrations of this shopsync; those of other programs stay."""

    async def work(opened: App, shop: Shop) -> str:
        change = await opened.registrations.remove(shop, url)
        others = f"; {change.unchanged} of other programs stay" if change.unchanged else ""
        return f"{len(change.removed)} event types removed{others}"

    asyncio.run(_for_each(settings_of(context), shop, app_name, work))


async def _for_each(
    settings: Settings,
    shop_ids: Sequence[str] | None,
    app_name: str | None,
    work: Callable[[App, Shop], Awaitable[str]],
) -> None:
    """Each shop has its line, in the order of the shops; raises IncompleteError for those that failed."""
    seats = asyncio.Semaphore(_AT_ONCE)
    async with open_app(settings) as opened:
        rows = _choose(await opened.store.shops.list(), shop_ids, app_name)

        async def attempt(shop: Shop) -> str | SyncError:
            async with seats:
                try:
                    return await work(opened, shop)
                except SyncError as error:
                    return error

        tasks = [asyncio.create_task(attempt(row.shop)) for row in rows]
        failures = []
        try:
            for row, task in zip(rows, tasks, strict=True):
                outcome = await task
                if isinstance(outcome, SyncError):
                    failures.append(f"{row.shop.shop_id} {row.shop.name}: {outcome}")
                else:
                    typer.echo(f"{row.shop.shop_id}  {row.shop.name}: {outcome}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise IncompleteError("\n".join(failures))


def _choose(rows: Sequence[ShopRow], shop_ids: Sequence[str] | None, app_name: str | None) -> list[ShopRow]:
    unknown = set(shop_ids or ()) - {row.shop.shop_id for row in rows}
    if unknown:
        raise SettingsError(
            f"no connected shop has the id {', '.join(sorted(unknown))}: `shopsync shops list` shows them"
        )
    chosen = [
        row
        for row in rows
        if row.shop.state != "disconnected"
        and (not shop_ids or row.shop.shop_id in shop_ids)
        and app_name in (None, row.shop.app)
    ]
    if not chosen:
        raise SettingsError("no connected shop is meant by this: `shopsync shops list` shows them")
    return chosen


def _own_address(settings: Settings) -> str:
    if not settings.web.public_url:
        raise SettingsError(
            "web.public_url (SHOPSYNC_WEB__PUBLIC_URL) is not set: set the address under which TikTok Shop "
            "reaches this machine, such as https://sync.example.com, or give --url"
        )
    return receiver_address(settings.web.public_url)


def _api_url(settings: Settings, app_name: str) -> str:
    return settings.app(app_name).api_url


def _describe_registered(change: Change) -> str:
    if not change.set_anew:
        return f"all {change.unchanged} event types were registered already"
    text = f"{len(change.set_anew)} event types registered"
    if change.unchanged:
        text += f", {change.unchanged} were already"
    replaced = sorted({row.address for row in change.replaced})
    return text + (f"; they went to {', '.join(replaced)} before" if replaced else "")


def _describe_list(registrations: Sequence[Registration]) -> str:
    if not registrations:
        return "nothing is registered"
    return "".join(f"\n    {row.event_type:<36}{row.address}" for row in registrations)
