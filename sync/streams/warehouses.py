"""Warehouses. TikTok Shop 202309 Get Warehouse List."""

from __future__ import annotations

from sync.streams.base import Stream, WholeList

WAREHOUSES = Stream(
    name="warehouses",
    method="GET",
    path="/logistics/202309/warehouses",
    records="warehouses",
    key="id",
    scope="seller.logistics",
    statement="store_warehouses",
    slicing=WholeList(),
)
