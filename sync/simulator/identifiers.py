"""Numbers and tokens that look like the platform's, repeatable from one seed."""

from __future__ import annotations

import base64
import random

# All start beyond 2**53: a client that reads them as JSON numbers in a double loses digits.
_STARTS = {
    "seller": 7010736057180300000,
    "shop": 7494049642642400000,
    "warehouse": 7068517275539700000,
    "entity": 7395366865142400000,
    "product": 1729592969712200000,
    "sku": 1729592969812200000,
    "order": 576461413038700000,
    "line_item": 577086512123700000,
    "package": 1152321127278700000,
    "buyer": 7021436810468200000,
}


class Identifiers:
    """Hands out ids that rise by uneven steps and never repeat."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._last = dict(_STARTS)

    def take(self, kind: str) -> int:
        """A fresh id of 18 or 19 digits; later ids of one kind are larger."""
        self._last[kind] = fresh = self._last[kind] + 1 + int(self._rng.random() * 1900)
        return fresh

    def opaque(self, prefix: str, size: int = 30) -> str:
        """A token of URL-safe letters, as ciphers and access tokens are."""
        return prefix + base64.urlsafe_b64encode(self._rng.randbytes(size)).decode().rstrip("=")
