"""What the demo shows: the live view, the comparison with the truth, and the summary."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sync.app import App
from sync.cli.upkeep import duration
from sync.simulator.product_calls import encode_inventory
from sync.simulator.server import RunningSimulator
from sync.simulator.shops import Shop
from sync.simulator.world import World

_DAYS = 7
TRY = (
    "SELECT * FROM bi.daily_sales ORDER BY order_date DESC LIMIT 10;",
    "SELECT product_title, seller_sku, available FROM bi.stock_on_hand ORDER BY available LIMIT 10;",
    "SELECT * FROM bi.inventory_asof(now() - interval '30 seconds') LIMIT 10;",
)


async def differences(opened: App, world: World) -> list[str]:
    """Orders and stock levels in which the tables differ from the simulated shops, one line each."""
    found = []
    for shop_id, shop in world.shops.items():
        rows = await opened.store.database.rows("order_versions", shop_id)
        stored: dict[Any, Any] = {r["order_id"]: (r["status"], r["update_time"]) for r in rows}
        true: dict[Any, Any] = {
            o["id"]: (o["status"], o["update_time"]) for o in map(_decode, shop.orders.bodies())
        }
        found += _differ(f"order of {shop.name}", stored, true)
        rows = await opened.store.database.rows("stock_levels", shop_id)
        stored = {
            (r["sku_id"], r["warehouse_id"]): (r["available_quantity"], r["committed_quantity"]) for r in rows
        }
        true = {
            (sku["id"], stock["warehouse_id"]): (stock["available_quantity"], stock["committed_quantity"])
            for product in _inventory_of(shop)
            for sku in product["skus"]
            for stock in sku["warehouse_inventory"]
        }
        found += _differ(f"stock of {shop.name}", stored, true)
    return found


def _decode(body: bytes) -> Any:
    return msgspec.json.decode(body)


def _inventory_of(shop: Shop) -> list[Any]:
    return [_decode(encode_inventory(p)) for p in shop.products.values() if p.status != "DELETED"]


def _differ(what: str, stored: dict[Any, Any], true: dict[Any, Any]) -> list[str]:
    keys = stored.keys() | true.keys()
    return [f"{what} {key}" for key in keys if stored.get(key) != true.get(key)]


async def live_panel(opened: App, simulator: RunningSimulator, left_s: float) -> Panel:
    """What has changed at the shops and what of it has arrived."""
    counts = await opened.store.database.rows("table_counts")
    status = await opened.store.status.read(["orders"], with_rows=False)
    lags = [row.lag_s for row in status if row.stream == "orders" and row.lag_s is not None]
    rows = {row["name"]: row["rows"] for row in counts}
    changes = sum(simulator.simulation.mutations.counts.values())
    text = Text()
    text.append(f"{changes:,}", style="bold cyan")
    text.append(" changes at the shops   ")
    text.append(f"{rows['orders']:,}", style="bold cyan")
    text.append(" orders   ")
    text.append(f"{rows['inventory_history']:,}", style="bold cyan")
    text.append(" stock movements kept   ")
    text.append(duration(max(lags, default=None)), style="bold green")
    text.append(f" behind   {left_s:.0f} s to go")
    return Panel(text, border_style="dim")


async def print_summary(
    console: Console,
    opened: App,
    simulator: RunningSimulator,
    *,
    found: Sequence[str],
    backfill_s: float,
    status_url: str,
    ends: bool,
) -> None:
    """The summary that a person enjoys reading."""
    database = opened.store.database
    counts = await database.rows("table_counts")
    stock = await database.rows("stock_totals")
    sales = await database.rows("recent_sales", _DAYS)
    console.print()
    console.rule("[bold]What is in your PostgreSQL now[/bold]", align="left", style="dim")
    for table in (_counts_table(counts), _stock_table(stock), _sales_table(sales)):
        console.print(Padding(table, (1, 0, 0, 0)))
    _print_proof(console, simulator, counts, found=found, backfill_s=backfill_s)
    if not ends:
        _print_next(console, opened, status_url)


def _counts_table(rows: Sequence[Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="tables", title_justify="left", title_style="bold cyan")
    for _ in range(2):
        table.add_column("table")
        table.add_column("rows", justify="right")
    cells = [(f"tiktok.{row['name']}", f"{row['rows']:,}") for row in rows]
    half = (len(cells) + 1) // 2
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "")):
        table.add_row(*left, *right)
    return table


def _stock_table(rows: Sequence[Any]) -> Table:
    table = Table(
        box=None, pad_edge=False, title="stock on hand", title_justify="left", title_style="bold cyan"
    )
    table.add_column("shop")
    for heading in ("SKUs", "available", "reserved", "sold out"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["shop_name"],
            f"{row['skus']:,}",
            f"{row['available']:,}",
            f"{row['committed']:,}",
            f"{row['sold_out']:,}",
        )
    return table


def _sales_table(rows: Sequence[Any]) -> Table:
    by_shop: dict[tuple[str, str], dict[Any, Any]] = defaultdict(dict)
    for row in rows:
        by_shop[row["shop_name"], row["currency"]][row["order_date"]] = row
    days = sorted({row["order_date"] for row in rows})
    table = Table(
        box=None,
        pad_edge=False,
        title=f"sales, last {_DAYS} days",
        title_justify="left",
        title_style="bold cyan",
    )
    table.add_column("shop")
    for day in days:
        table.add_column(f"{day:%a %d}", justify="right")
    table.add_column("total", justify="right", style="bold")
    for (shop, currency), per_day in by_shop.items():
        amounts = [per_day[day]["sales"] if day in per_day else Decimal(0) for day in days]
        cells = [_money(amount) for amount in amounts]
        table.add_row(shop, *cells, f"{_money(sum(amounts, Decimal(0)))} {currency}")
    return table


def _money(amount: Decimal) -> str:
    """Short enough for a column a day; the tables have every cent."""
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if amount >= size:
            return f"{amount / min(size, 1000 if unit == 'k' else size):,.1f}{unit}"
    return f"{amount:,.0f}"


def _print_proof(
    console: Console,
    simulator: RunningSimulator,
    counts: Sequence[Any],
    *,
    found: Sequence[str],
    backfill_s: float,
) -> None:
    shops: Any = simulator.simulation.meter.summary()["shops"]
    requests = sum(shop["requests"] for shop in shops.values())
    worst = max((shop["worst_second"] for shop in shops.values()), default=0)
    limited = sum(shop["rate_limited"] for shop in shops.values())
    notified = simulator.simulation.notifier.summary()["delivered"]
    changes = sum(simulator.simulation.mutations.counts.values())
    rows = {row["name"]: row["rows"] for row in counts}
    console.print()
    if found:
        console.print(f"[red]✗[/red] {len(found):,} rows differ from the simulated shops")
    else:
        console.print(
            f"[green]✓[/green] compared with the simulated shops: all {rows['orders']:,} orders and "
            f"{rows['inventory']:,} stock levels are equal, after {changes:,} changes while they were read"
        )
    console.print(
        f"[green]✓[/green] history read in {duration(backfill_s)}; {requests:,} requests in all; "
        f"the busiest second of a shop had {worst} (limit 50); {limited} refused"
    )
    console.print(f"[green]✓[/green] {notified:,} notifications of changes were taken in and followed up")


def _print_next(console: Console, opened: App, status_url: str) -> None:
    psql = "psql" if shutil.which("psql") or opened.store.psql is None else str(opened.store.psql)
    console.print("\n[bold]Look further[/bold]  (it runs on until Ctrl-C; the shops go on trading)")
    console.print(f"  status page   {status_url}", soft_wrap=True)
    console.print(f'  SQL           {psql} "{opened.store.url}"', soft_wrap=True, markup=False)
    for index, statement in enumerate(TRY):
        lead = "  try           " if index == 0 else " " * 16
        console.print(f"{lead}{statement}", soft_wrap=True, markup=False)
    console.print('\nFor your own shops: README.md, "Your own shops".')
