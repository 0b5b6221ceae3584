"""dlt reads the orders of each shop with its rest_api source and loads them into Postgres.

Merging by id, as a copy that is refreshed needs it; child tables one level deep, which leaves the
deeper ones as JSON and was the fastest. A load per shop: one of 400,000 orders does not end in minutes.
"""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dlt  # type: ignore[import-not-found]
from dlt.common.configuration import configspec  # type: ignore[import-not-found]
from dlt.sources.helpers.rest_client.auth import AuthConfigBase  # type: ignore[import-not-found]
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]

from tests.benchmarks.peers.signed import PATH, SHOPS, SINCE, URL, query_of, sign


@configspec
class Signing(AuthConfigBase):  # type: ignore[misc]
    """Signs every request of the client."""

    def __call__(self, request: Any) -> Any:
        return sign(request)


def main(disposition: str) -> None:
    """The orders of all shops are in schema `dlt`, table `orders`."""
    pipeline = dlt.pipeline(
        "orders",
        destination=dlt.destinations.postgres(_with_host(os.environ["PEER_DATABASE_URL"])),
        dataset_name="dlt",
        pipelines_dir=os.environ["PEER_FOLDER"],
    )
    for shop in SHOPS:
        pipeline.run(_source(shop, disposition))


def _source(shop: dict[str, str], disposition: str) -> Any:
    orders = {
        "name": "orders",
        "primary_key": "id",
        "write_disposition": {"disposition": "merge", "strategy": "upsert"}
        if disposition == "merge"
        else disposition,
        "endpoint": {
            "path": PATH.lstrip("/"),
            "method": "POST",
            "params": query_of(shop),
            "json": {"update_time_ge": SINCE},
            "data_selector": "data.orders",
            "paginator": {
                "type": "cursor",
                "cursor_path": "data.next_page_token",
                "cursor_param": "page_token",
            },
        },
    }
    source = rest_api_source({"client": {"base_url": URL, "auth": Signing()}, "resources": [orders]})
    source.max_table_nesting = 1
    return source


def _with_host(url: str) -> str:
    """The address with a host where dlt wants one; that of the query, a socket, still counts for libpq."""
    parts = urlsplit(url)
    if parts.hostname:
        return url
    user = parts.username or "postgres"
    return urlunsplit(parts._replace(netloc=f"{user}:{parts.password or 'none'}@localhost"))


if __name__ == "__main__":
    main(sys.argv[1])
