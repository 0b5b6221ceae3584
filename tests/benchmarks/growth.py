"""Tables that hold millions of rows already, made in minutes.

Indexes are what grows: the filler has every typed column of real orders and line items, under other
shops. Only `_raw` is cut to its id, or five million orders would take 25 GB and most of an hour.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.postgres import Server

_WRITERS = 2
# Shops before and after the one that is new to the tables, as in tables that have grown for years.
_SHOP = "overlay(shop_id placing lpad((({copy} * 37) % 1000)::text, 3, '0') from 3 for 3)"
_COLUMNS = """
SELECT attname FROM pg_attribute
 WHERE attrelid = 'tiktok.{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


def fill(server: Server, url: str, *, copies: int) -> None:
    """The tables hold every order ``copies`` times under other shops, and none under its own."""
    for table, key in (("orders", "order_id"), ("order_line_items", "line_item_id")):
        columns = [row[0] for row in server.fetch(url, _COLUMNS.format(table=table))]
        values = ", ".join(
            "jsonb_build_object('id', order_id) AS _raw" if column == "_raw" else column for column in columns
        )
        server.execute(
            url, f"CREATE UNLOGGED TABLE public.model AS SELECT {values} FROM tiktok.{table} ORDER BY {key}"
        )
        server.execute(url, f"TRUNCATE tiktok.{table}")
        values = ", ".join(_SHOP if column == "shop_id" else column for column in columns)
        copying = f"INSERT INTO tiktok.{table} ({', '.join(columns)}) SELECT {values} FROM public.model"
        with ThreadPoolExecutor(_WRITERS) as pool:
            statements = [copying.format(copy=copy) for copy in range(1, copies + 1)]
            list(pool.map(lambda statement: server.execute(url, statement), statements))
        server.execute(url, "DROP TABLE public.model")
