"""Sellers, their shops, and what belongs to a shop: warehouses, buyers, products, orders."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from sync.simulator.identifiers import Identifiers
from sync.simulator.markets import Market
from sync.simulator.products import Product
from sync.simulator.rows import RowIndex

_EMPTY_ADDRESS = {"address_detail": "", "full_address": "", "name": "", "phone_number": "", "postal_code": ""}


@dataclass(slots=True)
class Seller:
    """Who consents: one authorization covers all shops of the seller."""

    open_id: str
    name: str
    region: str
    seller_type: str


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A place of stock, or where returns go, with its record as the API sends it."""

    id: str
    is_for_sales: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Buyer:
    """A person who orders, with the address in the three shapes that an order's state allows."""

    user_id: str
    nickname: str
    email: str
    clear: msgspec.Raw
    masked: msgspec.Raw
    hidden: msgspec.Raw


@dataclass(slots=True)
class Shop:
    """One shop with all its records."""

    shop_id: str
    name: str
    code: str
    cipher: str
    seller: Seller
    market: Market
    warehouses: list[Warehouse]
    buyers: list[Buyer]
    is_active: bool = True
    products: dict[int, Product] = field(default_factory=dict)
    product_of_sku: dict[int, int] = field(default_factory=dict)
    product_rows: RowIndex = field(default_factory=RowIndex)
    orders: RowIndex = field(default_factory=RowIndex)
    open_orders: list[int] = field(default_factory=list)
    buyer_by_id: dict[str, Buyer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buyer_by_id = {buyer.user_id: buyer for buyer in self.buyers}

    @property
    def sales_warehouses(self) -> list[str]:
        """The ids of the warehouses that hold stock for sale."""
        return [warehouse.id for warehouse in self.warehouses if warehouse.is_for_sales]


def make_warehouses(
    market: Market, seller_type: str, *, ids: Identifiers, rng: random.Random
) -> list[Warehouse]:
    """Two warehouses for sale and one for returns; the first two ids share one physical place."""
    town, state, code = market.places[0]
    far_town, far_state, far_code = market.places[1]
    home = str(ids.take("entity"))
    sub_type = "CB_OVERSEA_WAREHOUSE" if seller_type == "CROSS_BORDER" else "DOMESTIC_WAREHOUSE"
    plans = (
        (f"{town} Fulfilment", home, "SALES_WAREHOUSE", True, (town, state, code)),
        (f"{town} Returns", home, "RETURN_WAREHOUSE", True, (town, state, code)),
        (
            f"{far_town} Overflow",
            str(ids.take("entity")),
            "SALES_WAREHOUSE",
            False,
            (far_town, far_state, far_code),
        ),
    )
    made = []
    for name, entity, kind, is_default, place in plans:
        warehouse_id = str(ids.take("warehouse"))
        record = {
            "address": _warehouse_address(market, place, rng=rng),
            "effect_status": "ENABLED",
            "entity_id": entity,
            "id": warehouse_id,
            "is_default": is_default,
            "name": name,
            "sub_type": sub_type,
            "type": kind,
        }
        body = msgspec.json.encode(record, order="sorted")
        made.append(Warehouse(id=warehouse_id, is_for_sales=kind == "SALES_WAREHOUSE", body=body))
    return made


def _warehouse_address(
    market: Market, place: tuple[str, str, str], *, rng: random.Random
) -> dict[str, object]:
    town, state, code = place
    first, last = rng.choice(market.first_names), rng.choice(market.last_names)
    line = f"{rng.choice(market.streets)} {rng.randrange(1, 200)}"
    address: dict[str, object] = {
        "address_line1": line,
        "address_line2": "",
        "city": town,
        "contact_person": f"{first} {last}",
        "distict": town,  # the platform's own spelling
        "full_address": f"{line}, {code} {town}, {state}, {market.country}",
        "geolocation": {
            "latitude": f"{rng.uniform(-40, 60):.5f}",
            "longitude": f"{rng.uniform(-120, 120):.5f}",
        },
        "phone_number": f"({market.dial}){rng.randrange(100, 999)}****{rng.randrange(1000, 9999)}",
        "postal_code": code,
        "region": market.country,
        "region_code": market.region,
        "state": state,
        "town": "",
    }
    if market.region == "JP":
        address |= {
            "first_name": first,
            "last_name": last,
            "first_name_local_script": "ケンイチ",
            "last_name_local_script": "タナカ",
        }
    if market.region == "BR":
        address |= {"address_line3": "Centro", "address_line4": "Galpão 2"}
    return address


def make_buyers(market: Market, count: int, *, ids: Identifiers, rng: random.Random) -> list[Buyer]:
    """A pool of buyers whose addresses are encoded once and shared by all their orders."""
    buyers = []
    for _ in range(count):
        user_id = str(ids.take("buyer"))
        first, last = rng.choice(market.first_names), rng.choice(market.last_names)
        clear = _buyer_address(market, first, last=last, rng=rng)
        masked = clear | {
            "first_name": f"{first[0]}***",
            "last_name": f"{last[0]}***",
            "name": f"{first[0]}*** {last[0]}***",
            "phone_number": f"({market.dial}){rng.randrange(100, 999)}*****{rng.randrange(10, 99)}",
        }
        hidden = _EMPTY_ADDRESS | {"region_code": market.region}
        buyers.append(
            Buyer(
                user_id=user_id,
                nickname=rng.choice((f"user{user_id[-6:]}", f"{first}.{last[0]}".lower(), f"{first} 🌸", "")),
                email=f"v2b{user_id[-7:]}@chat.seller.tiktok.com",
                clear=_encode(clear),
                masked=_encode(masked),
                hidden=_encode(hidden),
            )
        )
    return buyers


def _encode(address: Mapping[str, object]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(address, order="sorted"))


def _buyer_address(market: Market, first: str, *, last: str, rng: random.Random) -> dict[str, object]:
    town, state, code = rng.choice(market.places)
    line = f"{rng.choice(market.streets)} {rng.randrange(1, 400)}"
    levels = zip(market.levels, (market.country, state, town), ("L0", "L1", "L2"), strict=True)
    address: dict[str, object] = {
        "address_detail": line,
        "address_line1": line,
        "address_line2": rng.choice(("", "", "Apt 4B", "2. OG links")),
        "district_info": [
            {
                "address_level": level,
                "address_level_name": label,
                "address_name": name,
                "iso_code": market.region,
            }
            if level == "L0"
            else {"address_level": level, "address_level_name": label, "address_name": name}
            for label, name, level in levels
        ],
        "first_name": first,
        "full_address": f"{line}, {code} {town}, {state}, {market.country}",
        "last_name": last,
        "name": f"{first} {last}",
        "phone_number": f"({market.dial}){rng.randrange(100000000, 999999999)}",
        "postal_code": code,
        "region_code": market.region,
    }
    if market.region == "GB":
        address["post_town"] = town
    if market.region == "BR":
        address |= {
            "first_name": f"{first} {last}",
            "last_name": "",
            "address_line3": "Bairro Centro",
            "address_line4": "",
        }
    if market.region == "JP":
        address |= {"first_name_local_script": "サクラ", "last_name_local_script": "サトウ"}
    if market.region == "US" and rng.random() < 0.2:
        address["delivery_preferences"] = {"drop_off_location": "Front Door"}
    return address
