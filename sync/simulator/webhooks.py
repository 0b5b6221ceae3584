"""Which address hears of which topic: what apps have set for single shops."""

from __future__ import annotations

from dataclasses import dataclass, field

# The topics that can be given an address of their own, and their numbers.
TOPICS = {
    "ORDER_STATUS_CHANGE": 1,
    "RECIPIENT_ADDRESS_UPDATE": 3,
    "PACKAGE_UPDATE": 4,
    "PRODUCT_STATUS_CHANGE": 5,
    "SELLER_DEAUTHORIZATION": 6,
    "UPCOMING_AUTHORIZATION_EXPIRATION": 7,
    "CANCELLATION_STATUS_CHANGE": 11,
    "RETURN_STATUS_CHANGE": 12,
    "NEW_CONVERSATION": 13,
    "NEW_MESSAGE": 14,
    "PRODUCT_INFORMATION_CHANGE": 15,
    "PRODUCT_CREATION": 16,
    "PRODUCT_CATEGORY_CHANGE": 18,
    "NEW_MESSAGE_LISTENER": 33,
    "INVOICE_STATUS_CHANGE": 36,
    "PRODUCT_AUDIT_STATUS_CHANGE": 37,
}


@dataclass(slots=True)
class Webhook:
    """Where one shop's notifications of one topic go."""

    address: str
    create_time: int
    update_time: int


@dataclass(slots=True)
class Webhooks:
    """The addresses that apps have set, by shop and topic."""

    by_shop: dict[str, dict[str, Webhook]] = field(default_factory=dict)

    def address_of(self, shop_id: str, kind: int) -> str | None:
        """The address set for this shop and this topic's number, if any."""
        for name, webhook in self.by_shop.get(shop_id, {}).items():
            if TOPICS[name] == kind:
                return webhook.address
        return None
