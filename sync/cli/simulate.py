"""``shopsync simulator``: a TikTok Shop on this machine."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sync.cli.state import run_until_signal
from sync.errors import SettingsError
from sync.log import set_up_logging
from sync.settings import is_loopback
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import build_world

_DEFAULTS = SimulatorOptions()


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync simulator --port 9000 --shops 3 --orders 20000 --latency 0.3")(
        simulator
    )


def simulator(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; loopback only.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 9000,
    shops: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many shops there are.")] = 5,
    orders: Annotated[int, typer.Option(metavar="N", min=0, help="Orders per shop.")] = 5_000,
    products: Annotated[int, typer.Option(metavar="N", min=1, help="Products per shop.")] = 200,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=3_000, help="Days of history.")] = 365,
    flash_sale: Annotated[
        int, typer.Option(metavar="N", min=0, help="Orders of a shop that fall into one minute.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same shops.")] = 1,
    mutations: Annotated[
        float, typer.Option(metavar="N", min=0, help="Changes per second to orders, stock and products.")
    ] = 5,
    latency: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds that every answer takes.")
    ] = 0.1,
    jitter: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds that an answer may take more or less.")
    ] = 0.03,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests per second and shop; 0 for no limit.")
    ] = 50,
    app_key: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="The app's key; a second simulator with another one is a second app."
        ),
    ] = _DEFAULTS.app_key,
    service_id: Annotated[
        str, typer.Option(metavar="ID", help="The service id in the app's consent links.")
    ] = _DEFAULTS.service_id,
    redirect_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Where the consent page sends sellers back to.", show_default="the daemon's"
        ),
    ] = _DEFAULTS.redirect_url,
    notify_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Where notifications go, the daemon takes them at /webhooks/tiktok."
        ),
    ] = "",
) -> None:
    """Serve a TikTok Shop that behaves like the real one, to try shopsync without an account.

    It checks signatures, tokens, scopes and limits, changes while it is read, and fails on demand:
    GET /_sim/faults lists how.
    """
    set_up_logging(level="warning", log_format="auto")
    if not is_loopback(host):
        raise SettingsError(f"--host {host}: the simulator has no protection and listens on loopback only")
    if notify_url and not is_loopback(urlsplit(notify_url).hostname or ""):
        raise SettingsError(
            f"--notify-url {notify_url}: the simulator notifies addresses on this machine only"
        )
    if urlsplit(redirect_url).scheme not in ("http", "https"):
        raise SettingsError(f"--redirect-url {redirect_url}: must be a whole address")
    world = build_world(
        seed=seed,
        shops=shops,
        orders_per_shop=orders,
        products_per_shop=products,
        history_days=days,
        flash_sale_orders=min(flash_sale, orders),
    )
    options = SimulatorOptions(
        app_key=app_key,
        app_secret=_secret_of(app_key),
        service_id=service_id,
        redirect_url=redirect_url,
        notify_url=notify_url,
        latency_s=latency,
        jitter_s=min(jitter, latency),
        limit_per_s=limit,
        seed=seed,
    )

    async def work() -> None:
        try:
            running = await serve(world, host=host, port=port, options=options)
        except OSError as error:
            raise SettingsError(f"--port {port} cannot be used: {error.strerror}; choose another") from error
        try:
            await running.simulation.mutator.set_rate(mutations)
            _explain(running)
            await run_until_signal(asyncio.Event.wait)
        finally:
            await running.close()

    asyncio.run(work())


def _secret_of(app_key: str) -> str:
    """The simulated app's secret: the same for the same key, another for another, printed at the start."""
    if app_key == _DEFAULTS.app_key:
        return _DEFAULTS.app_secret
    return hashlib.sha256(app_key.encode()).hexdigest()[:40]


def _explain(running: RunningSimulator) -> None:
    options = running.options
    typer.echo(f"The simulated TikTok Shop answers at {running.url}\n")
    typer.echo("To sync from it, in another terminal:\n")
    typer.echo(f"  export SHOPSYNC_API_URL={running.url} SHOPSYNC_AUTH_URL={running.url}")
    typer.echo(f"  export SHOPSYNC_APP_KEY={options.app_key} SHOPSYNC_APP_SECRET={options.app_secret}")
    typer.echo(f"  export SHOPSYNC_SERVICE_ID={options.service_id}")
    typer.echo(f"  export SHOPSYNC_CONSENT_URL={running.url}/open/authorize")
    typer.echo("  shopsync shops connect                  # for each seller: leads to the consent page")
    typer.echo("  shopsync shops connect --code CODE      # or by a code below; each works once")
    typer.echo("  shopsync run\n")
    for seller in running.sellers():
        typer.echo(f"  {seller.name}: {', '.join(seller.shops)}\n      code {seller.code}")
    typer.echo(f"\nThe truth: {running.url}/_sim/truth   what was asked: {running.url}/_sim/stats")
    typer.echo(f"Faults to switch on: {running.url}/_sim/faults   (Ctrl-C ends it)")
