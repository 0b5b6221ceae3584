"""Get Authorized Shops and Get Active Shops."""

from __future__ import annotations

from sync.simulator.calls import Call
from sync.simulator.products import encode_sorted
from sync.simulator.searches import Desk, Page


def list_authorized_shops(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202309 Get Authorized Shops: all shops of the token's seller, with their ciphers."""
    rows = [
        encode_sorted(
            {
                "cipher": shop.cipher,
                "code": shop.code,
                "id": shop.shop_id,
                "name": shop.name,
                "region": shop.market.region,
                "seller_type": shop.seller.seller_type,
            }
        )
        for shop in call.sellers_shops
    ]
    return Page("shops", rows)


def list_active_shops(call: Call, desk: Desk) -> Page:
    """TikTok Shop 202309 Get Active Shops: id and region of the shops that are active."""
    shops = [shop for shop in call.sellers_shops if shop.is_active]
    return Page(
        "shops", [encode_sorted({"id": shop.shop_id, "region": shop.market.region}) for shop in shops]
    )
