"""Where TikTok Shop is to send each shop's notifications."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from sync.engine.api import ShopApi
from sync.engine.tokens import TokenSource
from sync.errors import RequestError, SettingsError
from sync.model import Shop
from sync.settings import Settings, Web, is_loopback
from sync.store.hints import Hints
from sync.store.leases import Lease, LeaseKeeper
from sync.tiktok.apps import Apps
from sync.tiktok.limiter import Pacer
from sync.tiktok.webhooks import (
    LONGEST_ADDRESS,
    Registration,
    Send,
    list_registrations,
    register,
    remove,
)

RECEIVER_PATH = "/webhooks/tiktok"
# What we act on, of what the API takes. Types 6 and 7 tell of the consent, the others of rows.
EVENT_TYPES = (
    "CANCELLATION_STATUS_CHANGE",
    "ORDER_STATUS_CHANGE",
    "PACKAGE_UPDATE",
    "PRODUCT_AUDIT_STATUS_CHANGE",
    "PRODUCT_CATEGORY_CHANGE",
    "PRODUCT_CREATION",
    "PRODUCT_INFORMATION_CHANGE",
    "PRODUCT_STATUS_CHANGE",
    "RECIPIENT_ADDRESS_UPDATE",
    "RETURN_STATUS_CHANGE",
    "SELLER_DEAUTHORIZATION",
    "UPCOMING_AUTHORIZATION_EXPIRATION",
)
# What we act on too, and the API does not take: Partner Center has a switch for each.
ONLY_IN_PARTNER_CENTER = {
    27: "inventory status change",
    50: "SKU status change",
    71: "inventory change",
}

# Longer than a round of the daemon. A backfill keeps a shop for hours.
_LEASE_WAIT_S = 15.0
_LOOK_AGAIN_S = 0.3
# A dozen requests need no more.
_PACE = 20.0
# Whoever had the lease may have used this second's requests.
_AFTER_ANOTHER_S = 1.1


@dataclass(frozen=True, slots=True)
class Change:
    """What was done for a shop. ``replaced`` went to another address before."""

    set_anew: tuple[str, ...] = ()
    replaced: tuple[Registration, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0


class Registrations:
    """Reads and changes the registrations of one shop at a time, while its lease is held."""

    def __init__(self, *, apps: Apps, tokens: TokenSource, leases: LeaseKeeper, hints: Hints) -> None:
        self._apps = apps
        self._tokens = tokens
        self._leases = leases
        self._hints = hints

    async def list(self, shop: Shop) -> list[Registration]:
        """What is set for the shop."""
        async with self._line(shop) as send:
            return await list_registrations(send)

    async def register(self, shop: Shop, address: str) -> Change:
        """Every event type goes to the address; what does so already is not sent again."""
        async with self._line(shop) as send:
            found = {row.event_type: row for row in await list_registrations(send)}
            missing = missing_types(found.values(), address)
            for event_type in missing:
                await register(send, Registration(event_type, address))
        return Change(
            set_anew=missing,
            replaced=tuple(found[name] for name in missing if name in found and found[name].address),
            unchanged=len(EVENT_TYPES) - len(missing),
        )

    async def remove(self, shop: Shop, address: str | None) -> Change:
        """Nothing goes to the address any more; without one, to nobody's receiver of our path."""
        async with self._line(shop) as send:
            found = await list_registrations(send)
            ours = [row for row in found if _is_ours(row.address, address)]
            for row in ours:
                await remove(send, row.event_type)
        return Change(removed=tuple(row.event_type for row in ours), unchanged=len(found) - len(ours))

    @asynccontextmanager
    async def _line(self, shop: Shop) -> AsyncIterator[Send]:
        app = self._apps.get(shop.app)
        lease = await self._acquire(shop.shop_id)
        pacer = Pacer(_PACE)
        if lease.taken_over:
            pacer.pause(_AFTER_ANOTHER_S)
        api = ShopApi(shop, app=app, tokens=self._tokens, pacer=pacer, lease=lease)
        try:
            yield api.ask
        finally:
            await self._leases.release(lease)

    async def _acquire(self, shop_id: str) -> Lease:
        """The shop's lease: only its holder may send requests, or the limit would be nobody's to keep."""
        give_up_at = time.monotonic() + _LEASE_WAIT_S
        while (lease := await self._leases.acquire(shop_id)) is None:
            if time.monotonic() > give_up_at:
                raise RequestError(
                    "another process is reading this shop's history: try again when it has ended "
                    "(`shopsync status` shows it), or stop it for a moment; it goes on where it stopped"
                )
            await self._hints.want(shop_id)
            await asyncio.sleep(_LOOK_AGAIN_S)  # Whoever has it lets go without a sign.
        return lease


def missing_types(found: Iterable[Registration], address: str) -> tuple[str, ...]:
    """The event types that do not go to the address."""
    there = {row.event_type for row in found if row.address == address}
    return tuple(name for name in EVENT_TYPES if name not in there)


def _is_ours(address: str, wanted: str | None) -> bool:
    return address == wanted if wanted else urlsplit(address).path.rstrip("/") == RECEIVER_PATH


def url_of(host: str, port: int) -> str:
    """The address under which this machine reaches a server that listens there."""
    # Who listens everywhere is reached from here through loopback.
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def callback_url(settings: Web, url: str) -> str:
    """The redirect URL to register for a server that listens at ``url``."""
    return f"{settings.public_url or url}/oauth/callback"


def receiver_address(public_url: str) -> str:
    """Where the daemon takes notifications when it is reached under that address."""
    return public_url.rstrip("/") + RECEIVER_PATH


def check_receiver(address: str, *, option: str, api_url: str) -> str:
    """The address, when TikTok Shop accepts such a one; else raises SettingsError that says what it wants.

    A simulator on this machine reaches everything on it, so there plain http on loopback will do.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if host and is_loopback(host) and is_loopback(urlsplit(api_url).hostname or ""):
        return address
    fault = ""
    if parts.scheme != "https" or not host:
        fault = "it must begin with https://"
    elif is_loopback(host):
        fault = "it must be reachable from the internet"
    elif _is_number(host) or "." not in host:
        fault = "it must have a domain name, not a bare address"
    elif port is not None:
        fault = "it must have no port"
    elif parts.query or parts.fragment or parts.username:
        fault = "it must be a plain address"
    elif len(address) > LONGEST_ADDRESS:
        fault = f"it must have at most {LONGEST_ADDRESS} characters"
    if fault:
        raise SettingsError(f"{option}: TikTok Shop cannot send notifications to {address!r}: {fault}")
    return address


def most_local_api(settings: Settings) -> str:
    """The API's address that allows most: a simulator's where any app has one, else TikTok Shop's."""
    urls = [settings.api_url, *(app.api_url for app in settings.apps.values() if app.api_url)]
    return max(urls, key=lambda url: is_loopback(urlsplit(url).hostname or ""))


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
