"""``shopsync backfill`` and ``shopsync run``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from sync.app import App, open_app
from sync.cli.progress import requests_per_second, shown
from sync.cli.state import give_up_stdout, read_moment, run_until_signal, settings_of
from sync.engine.consent_watch import ConsentWatch
from sync.engine.fleet import new_report
from sync.engine.requests import RunReport, SyncRequest
from sync.errors import IncompleteError, SettingsError
from sync.jobs.comparisons import Comparisons
from sync.jobs.local import LocalJobs
from sync.jobs.stalls import watching_for_stalls
from sync.jobs.upkeep import Upkeep
from sync.jobs.visits import Visits
from sync.settings import Settings
from sync.store.shops import ShopRow
from sync.streams.registry import STREAMS, select_streams
from sync.web.server import WebServer
from sync.web.webhooks import Webhooks

# Failed slices are planned again this often before a command gives up and says what is missing.
_PASSES = 4
_MOST_LINES = 20
_NO_ROOM = "Postgres has no room left; free space on its disk"
_VERBS = {
    "complete": "is complete",
    "incomplete": "is incomplete",
    "failed": "failed",
    "busy": "was left",
    "stopped": "was stopped",
}


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync backfill --since 2025-01-01 --stream orders")(backfill)
    app.command("run", epilog="Example, for cron:  shopsync run --once")(run_)


def backfill(
    context: typer.Context,
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
        str | None, typer.Option(metavar="DATE", help="Only what was updated from then on (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was updated before then (UTC).")
    ] = None,
) -> None:
    """Read history until everything asked for is stored.

    A run that was stopped or killed is resumed by the same command: what is stored is not read
    again. Exits 0 only if nothing is missing.
    """
    settings = settings_of(context, shows_progress=True)
    streams = tuple(s.name for s in select_streams(stream))
    begin, end = read_moment(since, "--since"), read_moment(until, "--until")
    if begin and end and begin >= end:
        raise SettingsError(f"--since {since} is not before --until {until}")
    if begin and begin.timestamp() > time.time():
        raise SettingsError(f"--since {since} lies in the future")
    request = SyncRequest("", streams, reason="backfill", since=begin, until=end, passes=_PASSES)
    asyncio.run(run_until_signal(lambda stopping: _backfill(settings, shop, request, stopping)))


def run_(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="One full round of every stream of every active shop, then exit.")
    ] = False,
) -> None:
    """Keep the copy true: the daemon, with its web server.

    Syncs every connected shop when it is due, refreshes tokens, fills history. SIGTERM or Ctrl-C
    ends it in order.
    """
    settings = settings_of(context)
    require_an_app(settings)
    work = _run_once if once else _serve
    # A daemon that was told to stop and had to be forced has lost nothing either.
    asyncio.run(run_until_signal(lambda stopping: work(settings, stopping), forced_code=1 if once else 0))


def require_an_app(settings: Settings) -> None:
    """Every app of the settings has its keys; raises SettingsError otherwise."""
    for name in settings.app_names:
        settings.app(name)


async def _backfill(
    settings: Settings, shops: Sequence[str] | None, request: SyncRequest, stopping: asyncio.Event
) -> None:
    require_an_app(settings)
    async with open_app(settings) as opened:
        await opened.store.credentials.check_key()
        chosen = await choose_shops(opened, shops)
        await sync_shops(opened, chosen, request, stopping=stopping, wait_for_lease=True)


async def _run_once(settings: Settings, stopping: asyncio.Event) -> None:
    request = SyncRequest("", tuple(STREAMS), reason="once", passes=_PASSES)
    async with open_app(settings, migrates=True) as opened:
        await opened.store.credentials.check_key()
        chosen = await choose_shops(opened, None)
        parked = [row for row in await opened.store.shops.list() if row.shop.state == "needs_reauth"]
        await sync_shops(opened, chosen, request, stopping=stopping, wait_for_lease=False)
        # Not read at all, and so not complete either, until somebody acts.
        if parked:
            raise IncompleteError("\n".join(_explain_parked(row) for row in parked))


def _explain_parked(row: ShopRow) -> str:
    reason = row.state_reason or "the seller must consent again: run `shopsync shops connect`"
    return f"{row.shop.shop_id} {row.shop.name} is not read: {reason}"


async def sync_shops(
    opened: App,
    shops: Sequence[tuple[str, str]],
    request: SyncRequest,
    *,
    stopping: asyncio.Event,
    wait_for_lease: bool,
) -> None:
    """Syncs the shops (id and name) like the request, shows the progress and prints the outcome.

    Raises IncompleteError that lists what is missing.
    """
    requests = [request.of(shop_id) for shop_id, _ in shops]
    reports = [new_report(r, name) for r, (_, name) in zip(requests, shops, strict=True)]
    started = time.monotonic()
    stop = asyncio.create_task(stop_fleet(opened, stopping))
    try:
        async with shown(reports):
            await opened.fleet.sync_all(requests, reports=reports, wait_for_lease=wait_for_lease)
    finally:
        stop.cancel()
    _print_outcome(reports, time.monotonic() - started)


async def stop_fleet(opened: App, stopping: asyncio.Event) -> None:
    """Once it is to stop, the fleet begins nothing new."""
    await stopping.wait()
    await opened.fleet.stop()


async def choose_shops(opened: App, wanted: Sequence[str] | None) -> list[tuple[str, str]]:
    """Ids and names of the wanted shops, or of all that can be read; raises SettingsError without any."""
    rows = await opened.store.shops.list(wanted or None)
    known = {row.shop.shop_id for row in rows}
    unknown = [shop_id for shop_id in wanted or () if shop_id not in known]
    if unknown:
        raise SettingsError(
            f"no connected shop has the id {', '.join(unknown)}: `shopsync shops list` shows them"
        )
    chosen = [row for row in rows if wanted or row.shop.state in ("active", "inactive")]
    if not chosen and not rows:
        raise SettingsError("no shop is connected yet: run `shopsync shops connect`, or try `shopsync demo`")
    if not chosen:
        raise SettingsError("no connected shop is active: `shopsync shops list` says why")
    return [(row.shop.shop_id, row.shop.name) for row in chosen]


def _print_outcome(reports: Sequence[RunReport], elapsed_s: float) -> None:
    for report in reports:
        tally = report.tally
        print(
            f"{report.shop_id}  {report.name}: {report.outcome}; {tally.inserted:,} new, "
            f"{tally.updated:,} changed, {tally.unchanged + tally.stale:,} as before, "
            f"{tally.rejected:,} rejected; {tally.requests:,} requests"
        )
    print(f"took {elapsed_s:.1f} s at {requests_per_second(reports, elapsed_s)}", file=sys.stderr)
    missing = [_explain(report) for report in reports if report.outcome != "complete"]
    if missing:
        raise IncompleteError("\n".join(missing))


def _explain(report: RunReport) -> str:
    problems = report.problems[:_MOST_LINES] or {
        "busy": ["another process syncs it; see `shopsync status`"],
        "stopped": ["stopped before the end; the same command goes on from here"],
    }.get(report.outcome, ["no reason was given"])
    return "\n".join(
        f"{report.shop_id} {report.name} {_VERBS[report.outcome]}: {problem}" for problem in problems
    )


async def _serve(settings: Settings, stopping: asyncio.Event) -> None:
    async with open_app(settings, migrates=True) as opened:
        await opened.store.credentials.check_key()
        await serve_daemon(opened, stopping)


async def serve_daemon(
    opened: App,
    stopping: asyncio.Event,
    *,
    tick_s: float | None = None,
    on_ready: asyncio.Future[str] | None = None,
) -> None:
    """The daemon, until ``stopping`` is set; ``on_ready`` gets the web server's address."""
    visits = Visits(
        fleet=opened.fleet, hints=opened.store.hints, round_s=opened.settings.reread_open_orders_s
    )
    comparisons = Comparisons(
        fleet=opened.fleet,
        proofs=opened.store.proofs,
        streams=tuple(STREAMS),
        every_s=opened.settings.verify_every_s,
    )
    jobs = LocalJobs(
        fleet=opened.fleet,
        cursors=opened.store.cursors,
        streams=tuple(STREAMS),
        most_at_once=opened.settings.parallel_shops,
        visits=visits,
        comparisons=comparisons,
        upkeep=Upkeep(runs=opened.store.runs, days=opened.settings.ledger_days),
        **({} if tick_s is None else {"tick_s": tick_s}),
    )
    web = WebServer(
        settings=opened.settings,
        status=opened.store.status,
        streams=tuple(STREAMS),
        is_ready=lambda: jobs.is_healthy and not stopping.is_set(),
        trouble=lambda: "" if opened.fleet.has_room else _NO_ROOM,
        running=lambda: opened.fleet.running,
        onboarding=opened.onboarding,
        webhooks=Webhooks(apps=opened.apps, hints=opened.store.hints, heard=visits.begin),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(web)
        if on_ready is not None:
            on_ready.set_result(web.url)
        else:
            try:
                await _greet(opened, web)
            except OSError:
                give_up_stdout()  # Its reader has gone, or its disk is full: no reason not to sync.
        await opened.store.cursors.retry_failed()
        watch = asyncio.create_task(ConsentWatch(opened.store.credentials).run(stopping))
        stack.push_async_callback(_end, watch)
        with watching_for_stalls():
            await jobs.run(stopping)


async def _greet(opened: App, web: WebServer) -> None:
    print(f"shopsync is running; status page: {web.url}", flush=True)
    if not await opened.store.shops.list():
        print(
            "no shop is connected yet: run `shopsync shops connect`, or open the status page; "
            f"the redirect URL of your app must be {web.callback_url}",
            flush=True,
        )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
