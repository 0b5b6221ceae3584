"""Edits of an order that leave its update_time alone: address, note, packages."""

from __future__ import annotations

import random

from sync.simulator import lifecycle
from sync.simulator.markets import Market
from sync.simulator.products import Json

_NOTES = ("Call before delivery", "Fragile, pack twice", "Priority customer", "Check the size first")


def change_address(order: Json, market: Market, *, rng: random.Random) -> None:
    """The parcel goes to another house in the same town; what is masked stays so."""
    address: Json = order["recipient_address"]
    before: str = address["address_line1"]
    line = f"{rng.choice(market.streets)} {rng.randrange(400, 9_000)}"
    full = address["full_address"].replace(before, line, 1)
    order["recipient_address"] = address | {
        "address_detail": line,
        "address_line1": line,
        "full_address": full,
    }
    order["has_updated_recipient_address"] = True


def change_note(order: Json, *, rng: random.Random) -> None:
    """The seller's note is another one."""
    before = order.get("seller_note")
    order["seller_note"] = rng.choice([note for note in _NOTES if note != before])


def can_be_repacked(order: Json) -> bool:
    """Whether its packages can be combined, or its one package split."""
    packed = [line for line in order["line_items"] if line["package_id"]]
    return len(order["packages"]) > 1 or len(packed) > 1


def repack(order: Json, package_id: str) -> str:
    """Several packages are one, or one has become two, the second under this id; returns COMBINE or SPLIT."""
    packed = [line for line in order["line_items"] if line["package_id"]]
    if len(order["packages"]) > 1:
        first = packed[0]
        order["packages"] = [{"id": first["package_id"]}]
        order["split_or_combine_tag"] = "COMBINED"
        for line in packed[1:]:
            _move(line, first["package_id"], tracking=first["tracking_number"])
        order["tracking_number"] = first["tracking_number"]
        return "COMBINE"
    tracking = f"SIM{package_id[-10:]}9"
    order["packages"].append({"id": package_id})
    order["split_or_combine_tag"] = "SPLIT"
    _move(packed[-1], package_id, tracking=tracking)
    order["tracking_number"] = tracking
    return "SPLIT"


def _move(line: Json, package_id: str, *, tracking: str) -> None:
    lifecycle.write_line(line, {"package_id": package_id, "tracking_number": tracking})
