"""Orders as they are first placed: payment, line items of one unit each, and the rarer kinds of order."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace

from sync.simulator.identifiers import Identifiers
from sync.simulator.line_items import Line, LineMaker
from sync.simulator.markets import Market
from sync.simulator.order_extras import add_market_fields, add_rarity, market_fees, share_fees
from sync.simulator.products import Json
from sync.simulator.shops import Buyer, Shop

_MESSAGES = (
    "Please ship asap!",
    "Leave with the neighbour, thanks",
    "It's a gift – no invoice please 🎁",
    "size M please\nnot L",
    'Call me "Sam"',
    "Giao giờ hành chính giúp mình",
    "Tolong bubble wrap ya kak",
)
_DAY_S = 86_400


@dataclass(slots=True)
class OrderMaker:
    """Places orders in one shop; every one starts UNPAID and is carried on by the lifecycle."""

    shop: Shop
    ids: Identifiers
    rng: random.Random
    lines: LineMaker = field(init=False)
    _earlier: deque[int] = field(default_factory=lambda: deque(maxlen=20))

    def __post_init__(self) -> None:
        self.lines = LineMaker(self.shop.market, self.ids, self.rng)
        self.lines.offer(self.shop.products.values())

    def place(self, created: int) -> Json:
        """A fresh UNPAID order of one to five units, by a buyer of the shop's pool."""
        rand, market = self.rng.random, self.shop.market
        order_id = self.ids.take("order")
        buyer = self.shop.buyers[int(rand() * rand() * len(self.shop.buyers))]
        roll = rand()
        units = 1 if roll < 0.66 else 2 if roll < 0.88 else 3 if roll < 0.96 else 5
        warehouse_ids = self.shop.sales_warehouses
        warehouse_id = warehouse_ids[0] if rand() < 0.8 else warehouse_ids[-1]
        is_sample = rand() < 0.015
        lines = [self.lines.draw(is_free=is_sample) for _ in range(1 if is_sample else units)]
        if len(lines) > 1 and rand() < 0.2:
            twin = lines[0].record | {"id": str(self.ids.take("line_item"))}
            lines[1] = replace(lines[0], record=twin)
        carrier, carrier_id = market.carriers[int(rand() * len(market.carriers))]
        is_cod = rand() < market.cod_share
        order = self._body(order_id, created, buyer=buyer)
        order |= {
            "is_cod": is_cod,
            "is_sample_order": is_sample,
            "line_items": [line.record for line in lines],
            "payment": self._payment(lines, market),
            "payment_method_name": "Cash on delivery"
            if is_cod
            else market.payments[int(rand() * len(market.payments))],
            "shipping_provider": carrier,
            "shipping_provider_id": carrier_id,
            "warehouse_id": warehouse_id,
        }
        add_market_fields(order, market, rng=self.rng)
        if rand() < 0.12:
            add_rarity(order, self.lines, earlier=self._earlier, rng=self.rng)
        self._earlier.append(order_id)
        return order

    def _body(self, order_id: int, created: int, *, buyer: Buyer) -> Json:
        rand = self.rng.random
        return {
            "buyer_avatar": f"https://p16-oec-sim.example/avatar/{buyer.user_id[-9:]}.webp",
            "buyer_email": buyer.email,
            "buyer_message": _MESSAGES[int(rand() * len(_MESSAGES))] if rand() < 0.12 else "",
            "buyer_nickname": buyer.nickname,
            "cancel_order_sla_time": created + 7 * _DAY_S,
            "create_time": created,
            "delivery_option_id": "7091146663229654785",
            "delivery_option_name": "Standard Shipping",
            "delivery_type": "COLLECTION_POINT" if rand() < 0.04 else "HOME_DELIVERY",
            "fulfillment_type": "FULFILLMENT_BY_TIKTOK" if rand() < 0.15 else "FULFILLMENT_BY_SELLER",
            "has_updated_recipient_address": rand() < 0.01,
            "id": str(order_id),
            "is_buyer_request_cancel": False,
            "is_on_hold_order": False,
            "is_replacement_order": False,
            "packages": [],
            "recipient_address": buyer.hidden,
            "rts_sla_time": created + 2 * _DAY_S,
            "shipping_type": "SELLER" if rand() < 0.2 else "TIKTOK",
            "status": "UNPAID",
            "tracking_number": "",
            "tts_sla_time": created + 3 * _DAY_S,
            "update_time": created,
            "user_id": buyer.user_id,
        }

    def _payment(self, lines: list[Line], market: Market) -> Json:
        original = sale = seller_cut = platform_cut = 0
        for line in lines:
            original += line.original
            sale += line.sale
            seller_cut += line.seller_cut
            platform_cut += line.platform_cut
        shipping = market.minor(3.9)
        rebate = shipping if self.rng.random() < 0.35 else 0
        is_cofunded = rebate > 0 and self.rng.random() < 0.1
        taxes = round(sale * market.tax_rate)
        fees = market_fees(market, sale, rng=self.rng)
        share_fees([line.record for line in lines], fees, market=market)
        total = sale + shipping - rebate + taxes + sum(fees.values())
        amounts = {
            "original_shipping_fee": shipping,
            "original_total_product_price": original,
            "platform_discount": platform_cut,
            "seller_discount": seller_cut,
            "shipping_fee": shipping - rebate,
            "shipping_fee_platform_discount": 0 if is_cofunded else rebate,
            # A co-funded discount takes the place of the seller's own.
            "shipping_fee_cofunded_discount" if is_cofunded else "shipping_fee_seller_discount": (
                rebate if is_cofunded else 0
            ),
            "sub_total": sale,
            "tax": taxes,
            "total_amount": total,
        }
        if market.tax_rate:
            amounts |= {"product_tax": taxes, "shipping_fee_tax": 0}
        payment: Json = {key: market.money(amount) for key, amount in (amounts | fees).items()}
        payment["currency"] = market.currency
        return payment
