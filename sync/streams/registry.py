"""Every stream there is, in the order in which people read them."""

from __future__ import annotations

from collections.abc import Iterable

from sync.errors import SettingsError
from sync.streams.base import Stream
from sync.streams.inventory import INVENTORY
from sync.streams.orders import ORDERS
from sync.streams.products import PRODUCTS
from sync.streams.warehouses import WAREHOUSES

STREAMS = {stream.name: stream for stream in (ORDERS, PRODUCTS, INVENTORY, WAREHOUSES)}


def select_streams(names: Iterable[str] | None) -> tuple[Stream, ...]:
    """The named streams, or all; raises SettingsError for a name that is none."""
    chosen = list(names or STREAMS)
    for name in chosen:
        if name not in STREAMS:
            raise SettingsError(f"there is no stream {name!r}: the streams are {', '.join(STREAMS)}")
    return tuple(stream for stream in STREAMS.values() if stream.name in chosen)
