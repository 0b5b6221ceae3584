"""``shopsync demo``: from nothing to tables full of a simulated TikTok Shop's data."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.live import Live

from sync.app import App, open_app
from sync.cli.state import Interrupted, results_console, run_until_signal
from sync.cli.summary import differences, live_panel, print_summary
from sync.cli.syncing import serve_daemon, sync_shops
from sync.engine.requests import SyncRequest
from sync.errors import IncompleteError
from sync.log import set_up_logging
from sync.settings import DEFAULT_APP, Settings, load_settings
from sync.simulator.options import SimulatorOptions
from sync.simulator.server import RunningSimulator, serve
from sync.simulator.world import World, build_world
from sync.streams.registry import STREAMS

_SHOPS = 5
_ORDERS = 6_000
_PRODUCTS = 150
_FLASH_SALE = 1_500
_MUTATIONS_PER_S = 40
_LATENCY_S = 0.12
_LIVE_S = 45
_LIVE_EXIT_S = 15
_SETTLE_S = 2
_INTERVALS = {"orders_s": 3, "products_s": 10, "inventory_s": 5, "warehouses_s": 60}


def register(app: typer.Typer) -> None:
    app.command(epilog="Example, for scripts:  shopsync demo --exit")(demo)


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the summary instead of running on.")
    ] = False,
) -> None:
    """See it work: simulated shops, an embedded PostgreSQL, a backfill, live changes, a summary.

    Needs no account, no database and no network. Everything it makes is gone when it ends.
    """
    set_up_logging(level="error", log_format="auto")
    shown = asyncio.Event()
    try:
        asyncio.run(run_until_signal(lambda stopping: _demo(stopping, shown, ends_itself=exit_)))
    except Interrupted:
        if not shown.is_set():
            raise
        # Ctrl-C is how a demo that has shown everything is left.


async def _demo(stopping: asyncio.Event, shown: asyncio.Event, *, ends_itself: bool) -> None:
    console = results_console()
    console.print(
        "[bold]shopsync demo[/bold]  a simulated TikTok Shop, an embedded PostgreSQL, nothing else\n"
    )
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="shopsync-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with console.status("making shops and starting PostgreSQL"):
            world = await asyncio.to_thread(_make_world)
            simulator = await stack.enter_async_context(_simulate(world))
            opened = await stack.enter_async_context(open_app(_settings(folder, simulator)))
        console.print(f"[green]✓[/green] PostgreSQL runs in {folder}")
        console.print(f"[green]✓[/green] the simulated TikTok Shop answers at {simulator.url}")
        await _connect(opened, simulator, console)
        console.print(
            "\n[bold]History[/bold]  every order, product and stock level, at most 50 requests/s and shop"
        )
        await simulator.simulation.mutator.set_rate(_MUTATIONS_PER_S)
        started = time.monotonic()
        await _backfill(opened, stopping)
        backfill_s = time.monotonic() - started
        if stopping.is_set():
            return
        await _go_live(
            opened, simulator, console, stopping, shown, ends_itself=ends_itself, backfill_s=backfill_s
        )


async def _connect(opened: App, simulator: RunningSimulator, console: Console) -> None:
    for consent in simulator.simulation.accounts.consents.values():
        connected = await opened.onboarding.connect(next(iter(consent.codes)), app=DEFAULT_APP)
        names = ", ".join(f"{shop.name} ({shop.region})" for shop in connected.shops)
        console.print(f"[green]✓[/green] {consent.seller.name} consented: {names}")


async def _backfill(opened: App, stopping: asyncio.Event) -> None:
    rows = await opened.store.shops.list()
    await sync_shops(
        opened,
        [(row.shop.shop_id, row.shop.name) for row in rows],
        SyncRequest("", tuple(STREAMS), reason="backfill", passes=3),
        stopping=stopping,
        wait_for_lease=True,
    )


async def _go_live(
    opened: App,
    simulator: RunningSimulator,
    console: Console,
    stopping: asyncio.Event,
    shown: asyncio.Event,
    *,
    ends_itself: bool,
    backfill_s: float,
) -> None:
    """The daemon keeps the copy true while the shops trade; then the copy is checked and summed up."""
    live_s = _LIVE_EXIT_S if ends_itself else _LIVE_S
    console.print(
        f"\n[bold]Live[/bold]  the shops trade on, {_MUTATIONS_PER_S} changes a second; "
        f"watching for {live_s} s"
    )
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    daemon_stop = asyncio.Event()
    daemon = asyncio.create_task(serve_daemon(opened, daemon_stop, tick_s=1, on_ready=ready))
    try:
        status_url = await _first_of(ready, daemon)
        simulator.change_options(
            redirect_url=f"{status_url}/oauth/callback", notify_url=f"{status_url}/webhooks/tiktok"
        )
        await _watch(opened, simulator, console, stopping, live_s)
        if stopping.is_set():
            return
        # What is true is only known while nothing moves: the shops close for a moment.
        await simulator.simulation.mutator.set_rate(0)
        found = await _wait_until_true(opened, simulator.world)
        await print_summary(
            console,
            opened,
            simulator,
            found=found,
            backfill_s=backfill_s,
            status_url=status_url,
            ends=ends_itself,
        )
        if found:
            raise IncompleteError(
                f"the copy differs from the simulated shops in {len(found)} rows: {found[0]}"
            )
        if not ends_itself:
            await simulator.simulation.mutator.set_rate(_MUTATIONS_PER_S)
            shown.set()
            await stopping.wait()
    finally:
        daemon_stop.set()
        await daemon


async def _watch(
    opened: App, simulator: RunningSimulator, console: Console, stopping: asyncio.Event, seconds: float
) -> None:
    until = time.monotonic() + seconds
    if not console.is_terminal:
        await _sleep(stopping, seconds)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while time.monotonic() < until and not stopping.is_set():
            live.update(await live_panel(opened, simulator, until - time.monotonic()))
            await _sleep(stopping, 1)


async def _wait_until_true(opened: App, world: World) -> list[str]:
    """What still differs once the daemon had two rounds' time to see the last change."""
    deadline = time.monotonic() + 30
    found = await differences(opened, world)
    while found and time.monotonic() < deadline:  # only the rows tell that it caught up
        await asyncio.sleep(1)
        found = await differences(opened, world)
    return found


async def _first_of(ready: asyncio.Future[str], daemon: asyncio.Task[None]) -> str:
    """The daemon's address; raises what ended the daemon before it had one."""
    waits: set[asyncio.Future[Any]] = {ready, daemon}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if daemon.done():
        await daemon
    return ready.result()


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return


def _make_world() -> World:
    return build_world(
        seed=2026,
        shops=_SHOPS,
        orders_per_shop=_ORDERS,
        products_per_shop=_PRODUCTS,
        history_days=400,
        flash_sale_orders=_FLASH_SALE,
    )


@asynccontextmanager
async def _simulate(world: World) -> AsyncIterator[RunningSimulator]:
    running = await serve(world, options=SimulatorOptions(latency_s=_LATENCY_S, jitter_s=0.03))
    try:
        yield running
    finally:
        await running.close()


def _settings(folder: Path, simulator: RunningSimulator) -> Settings:
    settings = load_settings(
        overrides={
            "data_dir": str(folder),
            "api_url": simulator.url,
            "auth_url": simulator.url,
            "app_key": simulator.options.app_key,
            "service_id": simulator.options.service_id,
            "consent_url": f"{simulator.url}/open/authorize",
            "settle_s": _SETTLE_S,
            # The simulator shows a change at once, so a short second look is enough.
            "lookback_s": 20,
            "intervals": _INTERVALS,
            "web": {"port": 0},
        }
    )
    return settings.model_copy(update={"app_secret": SecretStr(simulator.options.app_secret)})
