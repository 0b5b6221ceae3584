"""``shopsync doctor``: what is wrong between here and TikTok Shop, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.app import Store, open_apps, open_store_as_it_is
from sync.cli.state import results_console, settings_of
from sync.engine.database_checkup import check_database
from sync.engine.findings import Finding, Level, ScopeCheck
from sync.engine.provider_checkup import SellerCheckup, check_app, check_host
from sync.engine.registrations import check_receiver, most_local_api, receiver_address
from sync.engine.settings_checkup import check_files, check_settings
from sync.engine.sync_checkup import check_scopes, check_sync
from sync.errors import DatabaseError, SettingsError
from sync.log import redact, set_up_logging
from sync.settings import DEFAULT_APP, Settings, secret_files
from sync.store.inspection import Inspection
from sync.store.shops import ShopRow
from sync.streams.registry import STREAMS
from sync.tiktok.apps import Apps

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "problem": ("problem", "red"),
}
_AREAS = (
    "settings", "files", "TikTok Shop", "clock", "database", "sellers", "shops", "scopes", "webhooks", "sync",
)  # fmt: skip
_WRONG_SETTINGS = 2
# More shops than that make a table nobody reads; the findings name what is missing.
_MOST_SHOPS_SHOWN = 30


@dataclass(slots=True)
class Report:
    """All that was found."""

    findings: list[Finding] = field(default_factory=list)
    scopes: list[ScopeCheck] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """2 when the settings are wrong, 1 when anything else is, 0 with warnings at the most."""
        areas = {finding.area for finding in self.findings if finding.level == "problem"}
        return (_WRONG_SETTINGS if "settings" in areas else 1) if areas else 0


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  shopsync doctor --json | jq '.findings[] | select(.level != \"ok\")'")(
        doctor
    )


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: an object on stdout.")] = False,
) -> None:
    """Check settings, database, clock, apps, every seller's consent and scopes, and say what to do.

    It changes nothing, refreshes no token and asks TikTok Shop a few questions per seller. Exit code 0
    when nothing is wrong (warnings allowed), 1 when something is, 2 when it is the settings.
    """
    report = Report()
    try:
        settings = settings_of(context)
    except SettingsError as error:
        report.findings += [Finding("settings", "problem", line) for line in str(error).splitlines()]
    else:
        # The findings say it all; log lines between them would not help.
        set_up_logging(level="error", log_format=settings.log_format)
        asyncio.run(examine(settings, report))
    if as_json:
        typer.echo(json.dumps(_to_json(report), indent=2))
    else:
        print_report(results_console(), report)
    raise typer.Exit(report.exit_code)


async def examine(settings: Settings, report: Report) -> None:
    """Everything is checked as far as the faults found on the way allow."""
    report.findings += check_settings(settings)
    report.findings += check_files(settings, secret_files())
    rows: list[ShopRow] = []
    async with open_apps(settings) as apps:
        ready = await _check_provider(settings, apps, report)
        try:
            async with open_store_as_it_is(settings) as store:
                if store is None:
                    what = (
                        f"there is none yet: the first command makes an embedded one in {settings.data_path}"
                    )
                    report.findings.append(Finding("database", "ok", what))
                elif (rows := await _check_store(settings, store, report)) and ready:
                    await _check_sellers(settings, store, apps=apps, rows=rows, ready=ready, report=report)
        except DatabaseError as error:
            report.findings.append(Finding("database", "problem", str(error)))
        except SettingsError as error:
            report.findings.append(Finding("settings", "problem", str(error)))
    if not rows and report.exit_code == 0:
        todo = "run `shopsync shops connect`"
        report.findings.append(Finding("sellers", "warning", "no shop is connected yet", todo))


async def _check_provider(settings: Settings, apps: Apps, report: Report) -> frozenset[str]:
    """The names of the apps that TikTok Shop can be asked with."""
    addresses = {}
    for name in settings.app_names:
        try:
            addresses[name] = settings.app(name)
        except SettingsError:
            continue  # Told with the settings.
    hosts = sorted({url for app in addresses.values() for url in (app.api_url, app.auth_url)})
    answering = set()
    for host, (findings, answers) in zip(
        hosts, await asyncio.gather(*(check_host(host) for host in hosts)), strict=True
    ):
        report.findings += findings
        if answers:
            answering.add(host)
    ready = set()
    for name, app in addresses.items():
        if app.auth_url in answering:
            finding = await check_app(apps.get(name))
            report.findings.append(finding)
            if finding.level != "problem" and app.api_url in answering:
                ready.add(name)
    return frozenset(ready)


async def _check_store(settings: Settings, store: Store, report: Report) -> list[ShopRow]:
    """The connected shops, as far as the tables can be read."""
    inspection = Inspection(store.database)
    findings, is_usable = await check_database(inspection, pool_size=settings.database_pool_size)
    report.findings += findings
    if not is_usable:
        return []
    rows = [row for row in await store.shops.list() if row.shop.state != "disconnected"]
    status = await store.status.read(list(STREAMS), with_rows=False)
    at_work = (await inspection.server_facts()).at_work
    report.findings += check_sync(status, intervals=settings.intervals, at_work=at_work)
    findings, report.scopes = check_scopes(rows)
    report.findings += findings
    return rows


async def _check_sellers(
    settings: Settings,
    store: Store,
    *,
    apps: Apps,
    rows: Sequence[ShopRow],
    ready: frozenset[str],
    report: Report,
) -> None:
    report.findings += [
        Finding("shops", "warning" if row.shop.state == "paused" else "problem", _describe_state(row))
        for row in rows
        if row.shop.state in ("paused", "inactive")
    ]
    unknown = sorted({row.shop.app for row in rows} - set(settings.app_names))
    for name in unknown:
        setting = "app_key (SHOPSYNC_APP_KEY)" if name == DEFAULT_APP else f"[apps.{name}]"
        todo = f"add {setting} again, or connect these shops with another app"
        what = f"shops were connected by the app {name}, which is not in the settings"
        report.findings.append(Finding("settings", "problem", what, todo))
    status = await store.status.read(list(STREAMS), with_rows=False)
    checkup = SellerCheckup(apps=apps, read_credential=store.credentials.read, receiver=_receiver(settings))
    report.findings += await checkup.check(
        [row for row in rows if row.shop.app in ready],
        busy=frozenset(row.shop_id for row in status if row.synced_by),
    )


def _describe_state(row: ShopRow) -> str:
    shop = row.shop
    return f"{shop.name or shop.shop_id} is {shop.state}: {row.state_reason or 'no reason was noted'}"


def _receiver(settings: Settings) -> str | None:
    if not settings.web.public_url:
        return None
    address = receiver_address(settings.web.public_url)
    try:
        return check_receiver(address, option="web.public_url", api_url=most_local_api(settings))
    except SettingsError:
        return None  # Told with the settings.


def print_report(console: Console, report: Report) -> None:
    """What a person reads: area by area, a mark before each line, what to do below it."""
    area = ""
    for finding in sorted(report.findings, key=lambda f: _AREAS.index(f.area)):
        if finding.area != area:
            area = finding.area
            console.print(Text(area, style="bold"))
        mark, style = _MARKS[finding.level]
        console.print(Text.assemble((f"  {mark:<9}", style), redact(finding.what)), soft_wrap=True)
        if finding.todo:
            console.print(Text(f"           -> {redact(finding.todo)}"), soft_wrap=True)
    shops = len({check.shop_id for check in report.scopes})
    if 0 < shops <= _MOST_SHOPS_SHOWN:
        console.print(Text("granted", style="bold"))
        console.print(_scope_table(report.scopes))
    counts = [
        f"{count} {level}{'' if count == 1 else 's'}"
        for level in ("problem", "warning")
        if (count := sum(finding.level == level for finding in report.findings))
    ]
    console.print(", ".join(counts) or "nothing is wrong")


def _scope_table(checks: Sequence[ScopeCheck]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for heading in ("shop", "stream", "scope", "granted"):
        table.add_column(heading, overflow="fold")
    words = {True: Text("yes", "green"), False: Text("no", "yellow"), None: Text("not told", "dim")}
    shop = ""
    for check in checks:
        name = "" if check.shop_id == shop else f"{check.name or 'unnamed'} {check.shop_id}"
        shop = check.shop_id
        table.add_row(name, check.stream, check.scope, words[check.granted])
    return table


def _to_json(report: Report) -> dict[str, object]:
    return {
        "exit_code": report.exit_code,
        "findings": [
            {name: redact(text) for name, text in asdict(finding).items()} for finding in report.findings
        ],
        "scopes": [asdict(check) for check in report.scopes],
    }
