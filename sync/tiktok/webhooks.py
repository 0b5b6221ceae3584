"""Where TikTok Shop sends a shop's notifications. TikTok Shop 202309 Get, Update and Delete Shop Webhooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from sync.errors import RequestError
from sync.tiktok.client import Call

_PATH = "/event/202309/webhooks"
LONGEST_ADDRESS = 255

# Sends a call on a shop's behalf and returns the data of its answer.
Send = Callable[[Call], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, order=True)
class Registration:
    """One event type of a shop, and the address that its notifications go to."""

    event_type: str
    address: str


class _Row(msgspec.Struct):
    event_type: str
    address: str = ""


class _Body(msgspec.Struct):
    webhooks: list[_Row] | None = None


async def list_registrations(send: Send) -> list[Registration]:
    """What is set for the shop itself; the app's default address does not show here."""
    data = await send(Call("GET", _PATH))
    try:
        body = msgspec.json.decode(data, type=_Body | None) or _Body()
    except msgspec.DecodeError as error:
        raise RequestError(f"the list of webhooks has an unknown shape: {error}") from None
    return sorted(Registration(row.event_type, row.address) for row in body.webhooks or [])


async def register(send: Send, wanted: Registration) -> None:
    """Notifications of that type go to that address from now on, and to no other of this shop."""
    body = {"address": wanted.address, "event_type": wanted.event_type}
    await send(Call("PUT", _PATH, body=msgspec.json.encode(body)))


async def remove(send: Send, event_type: str) -> None:
    """No address is set for the type any more, as far as this shop is concerned."""
    await send(Call("DELETE", _PATH, body=msgspec.json.encode({"event_type": event_type})))
