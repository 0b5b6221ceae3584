"""The only place that builds things: from settings to a store, a client and a fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sync.engine.fleet import Fleet
from sync.engine.onboarding import Onboarding
from sync.engine.shop_sync import Tools
from sync.engine.tokens import TokenSource
from sync.errors import DatabaseError, SettingsError
from sync.settings import Settings, split_keys
from sync.store.credentials import KEY_MISSING, Vault, load_or_make_key
from sync.store.cursors import Cursors
from sync.store.embedded import EmbeddedPostgres
from sync.store.leases import LeaseKeeper
from sync.store.migrations import migrate_database, pending
from sync.store.pool import Database
from sync.store.runs import Runs
from sync.store.shops import Shops
from sync.store.sink import Sink
from sync.store.status import Status
from sync.tiktok.apps import AppAddress, Apps
from sync.tiktok.client import AppKeys


@dataclass(frozen=True, slots=True)
class Store:
    """What needs Postgres only."""

    url: str
    psql: Path | None
    database: Database
    shops: Shops
    cursors: Cursors
    status: Status


@dataclass(frozen=True, slots=True)
class App:
    """What talks to TikTok Shop too."""

    settings: Settings
    store: Store
    apps: Apps
    tokens: TokenSource
    fleet: Fleet
    onboarding: Onboarding


@asynccontextmanager
async def open_postgres(settings: Settings) -> AsyncIterator[tuple[str, Path | None]]:
    """The address of the database, and psql where we bring it: the server of the settings, or our own."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value(), None
        return
    async with EmbeddedPostgres(settings.data_path) as embedded:
        yield embedded.url, embedded.psql


@asynccontextmanager
async def open_store(settings: Settings, *, migrates: bool = False) -> AsyncIterator[Store]:
    """The store, at this version. Raises DatabaseError when the database is not and ``migrates`` is False.

    A database of our own is always brought to this version.
    """
    async with AsyncExitStack() as stack:
        url, psql = await stack.enter_async_context(open_postgres(settings))
        if migrates or settings.database_url is None:
            await migrate_database(url)
        database = await stack.enter_async_context(Database(url, size=settings.database_pool_size))
        async with database.connection() as connection:
            missing = await pending(connection)
        if missing:
            raise DatabaseError(f"the database lacks {', '.join(missing)}: run `shopsync migrate`")
        yield Store(
            url=url,
            psql=psql,
            database=database,
            shops=Shops(database, _open_vault(settings)),
            cursors=Cursors(database),
            status=Status(database),
        )


@asynccontextmanager
async def open_app(settings: Settings, *, migrates: bool = False) -> AsyncIterator[App]:
    """Everything, ready to sync."""
    if settings.database_url is not None and settings.encryption_key is None:
        raise SettingsError(KEY_MISSING)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings, migrates=migrates))
        apps = await stack.enter_async_context(Apps(settings.app_names, partial(app_address, settings)))
        leases = await stack.enter_async_context(LeaseKeeper(store.url))
        tokens = TokenSource(store.shops, apps)
        stack.push_async_callback(tokens.drain)
        tools = Tools(
            settings=settings,
            database=store.database,
            sink=Sink(store.database),
            cursors=store.cursors,
            runs=Runs(store.database),
            shops=store.shops,
        )
        yield App(
            settings=settings,
            store=store,
            apps=apps,
            tokens=tokens,
            fleet=Fleet(tools=tools, apps=apps, tokens=tokens, leases=leases),
            onboarding=Onboarding(
                apps=apps,
                shops=store.shops,
                cursors=store.cursors,
                tokens=tokens,
                requests_per_second=settings.requests_per_second,
            ),
        )


def app_address(settings: Settings, name: str) -> AppAddress:
    """The keys and hosts of the app of that name; raises SettingsError when they are not in the settings."""
    app = settings.app(name)
    keys = AppKeys(app_key=app.app_key, app_secret=app.app_secret.get_secret_value())
    return AppAddress(keys, app.api_url, app.auth_url)


def _open_vault(settings: Settings) -> Vault:
    if settings.encryption_key is not None:
        return Vault(split_keys(settings.encryption_key.get_secret_value()))
    if settings.database_url is not None:
        # Listing shops or showing the status works without; whoever needs tokens is told.
        return Vault([])
    return Vault([load_or_make_key(settings.data_path / "encryption.key")])
