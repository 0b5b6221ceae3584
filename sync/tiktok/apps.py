"""The apps of the settings: for each its keys, and a client to its hosts with their clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from sync.clock import ApiClock
from sync.errors import SettingsError
from sync.tiktok.client import AppKeys, Client


@dataclass(frozen=True, slots=True)
class AppAddress:
    """What identifies an app to TikTok, and the hosts that know it."""

    keys: AppKeys
    api_url: str
    auth_url: str


@dataclass(frozen=True, slots=True)
class ConnectedApp:
    """An app that can be spoken for. Apps of the same hosts share a client."""

    name: str
    keys: AppKeys
    client: Client


class Apps:
    """The apps by their names in the settings. Use as an async context manager.

    ``find`` raises SettingsError for an app that is not configured, or not completely; so does ``get``.
    """

    def __init__(self, names: Iterable[str], find: Callable[[str], AppAddress]) -> None:
        self.names = tuple(names)
        self._find = find
        self._clients: dict[tuple[str, str], Client] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Apps:
        for name in self.names:
            with suppress(SettingsError):
                address = self._find(name)
                hosts = (address.api_url, address.auth_url)
                if hosts not in self._clients:
                    client = Client(api_url=hosts[0], auth_url=hosts[1], clock=ApiClock())
                    self._clients[hosts] = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def get(self, name: str) -> ConnectedApp:
        """The app of that name; raises SettingsError that says what is missing."""
        address = self._find(name)
        return ConnectedApp(name, address.keys, self._clients[address.api_url, address.auth_url])
