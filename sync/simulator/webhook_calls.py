"""Update Shop Webhook, Get Shop Webhooks, Delete Webhook for an Event, and what they have set."""

from __future__ import annotations

import msgspec

from sync.simulator.calls import Call
from sync.simulator.products import encode_sorted
from sync.simulator.replies import invalid
from sync.simulator.searches import Desk
from sync.simulator.webhooks import TOPICS, Webhook

_LONGEST_ADDRESS = 255


class _Update(msgspec.Struct):
    event_type: str
    address: str


class _Removal(msgspec.Struct):
    event_type: str


def update_webhook(call: Call, desk: Desk) -> bytes:
    """TikTok Shop 202309 Update Shop Webhook: the topic's notifications of this shop go to the address."""
    wanted = call.read_body(_Update)
    _check_topic(wanted.event_type)
    if not wanted.address.startswith(("https://", "http://")):
        raise invalid("address", "must be a URL")
    if len(wanted.address) > _LONGEST_ADDRESS:
        raise invalid("address", f"at most {_LONGEST_ADDRESS} characters")
    webhooks = desk.webhooks.by_shop.setdefault(call.of_shop.shop_id, {})
    old, now = webhooks.get(wanted.event_type), int(call.now)
    webhooks[wanted.event_type] = Webhook(wanted.address, old.create_time if old else now, now)
    return b"{}"


def list_webhooks(call: Call, desk: Desk) -> bytes:
    """TikTok Shop 202309 Get Shop Webhooks: those set for this shop, not the app's default address."""
    webhooks = desk.webhooks.by_shop.get(call.of_shop.shop_id, {})
    rows = [
        {
            "address": webhook.address,
            "create_time": webhook.create_time,
            "event_type": name,
            "update_time": webhook.update_time,
        }
        for name, webhook in webhooks.items()
    ]
    return encode_sorted({"total_count": len(rows)} | ({"webhooks": rows} if rows else {}))


def delete_webhook(call: Call, desk: Desk) -> bytes:
    """TikTok Shop 202309 Delete Webhook for an Event: succeeds even where none is set."""
    topic = call.read_body(_Removal).event_type
    _check_topic(topic)
    desk.webhooks.by_shop.get(call.of_shop.shop_id, {}).pop(topic, None)
    return b"{}"


def _check_topic(name: str) -> None:
    if name not in TOPICS:
        raise invalid("event_type", "must be the name of a topic")
