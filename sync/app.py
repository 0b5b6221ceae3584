"""The only place that builds things: from settings to a store, a client and a fleet."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sync.engine.fleet import Fleet
from sync.engine.onboarding import Onboarding
from sync.engine.refresher import AppSetup, Setup
from sync.engine.refresher_line import RefresherLine
from sync.engine.registrations import Registrations
from sync.engine.tokens import TokenSource
from sync.engine.tools import Tools
from sync.errors import DatabaseError, SettingsError
from sync.settings import DEFAULT_APP, Settings, split_keys
from sync.store.consents import Consents
from sync.store.credentials import KEY_MISSING, Vault
from sync.store.cursors import Cursors
from sync.store.embedded import EmbeddedPostgres, has_embedded
from sync.store.hints import Hints
from sync.store.key_file import load_or_make_keys
from sync.store.leases import LeaseKeeper
from sync.store.migrations import migrate_database, pending
from sync.store.origins import Origins
from sync.store.pool import Database
from sync.store.proofs import Proofs
from sync.store.runs import Runs
from sync.store.shops import Shops
from sync.store.sink import Sink
from sync.store.status import Status
from sync.store.tokens import Credentials
from sync.tiktok.apps import AppAddress, Apps
from sync.tiktok.client import AppKeys
from sync.tiktok.oauth import consent_url


@dataclass(frozen=True, slots=True)
class Store:
    """What needs Postgres only."""

    url: str
    psql: Path | None
    database: Database
    shops: Shops
    credentials: Credentials
    cursors: Cursors
    consents: Consents
    hints: Hints
    proofs: Proofs
    origins: Origins
    runs: Runs
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
    registrations: Registrations


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
        yield _make_store(url, psql, database, _open_vault(settings))


@asynccontextmanager
async def open_store_as_it_is(settings: Settings) -> AsyncIterator[Store | None]:
    """The store to be looked at, whatever its version; None where none was made yet. Nothing is made."""
    if settings.database_url is None and not has_embedded(settings.data_path):
        yield None
        return
    async with open_postgres(settings) as (url, psql), Database(url, size=2) as database:
        yield _make_store(url, psql, database, _open_vault(settings, makes_key=False))


def _make_store(url: str, psql: Path | None, database: Database, vault: Vault) -> Store:
    return Store(
        url=url,
        psql=psql,
        database=database,
        shops=Shops(database, vault),
        credentials=Credentials(database, vault),
        cursors=Cursors(database),
        consents=Consents(database),
        hints=Hints(database),
        proofs=Proofs(database),
        origins=Origins(database),
        runs=Runs(database),
        status=Status(database),
    )


def open_apps(settings: Settings) -> Apps:
    """The apps of the settings, each with a client to its hosts once the context is entered."""
    return Apps(settings.app_names, partial(app_address, settings))


@asynccontextmanager
async def open_app(settings: Settings, *, migrates: bool = False) -> AsyncIterator[App]:
    """Everything, ready to sync."""
    if settings.database_url is not None and settings.encryption_key is None:
        raise SettingsError(KEY_MISSING)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings, migrates=migrates))
        apps = await stack.enter_async_context(open_apps(settings))
        leases = await stack.enter_async_context(LeaseKeeper(store.url))
        refresher = RefresherLine(refresher_setup(settings, store.url))
        tokens = TokenSource(store.credentials, apps, refresher)
        stack.push_async_callback(tokens.drain)
        tools = Tools(
            settings=settings,
            database=store.database,
            sink=Sink(store.database),
            cursors=store.cursors,
            hints=store.hints,
            proofs=store.proofs,
            runs=store.runs,
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
                consents=store.consents,
                tokens=tokens,
                link_of=partial(consent_link, settings),
                requests_per_second=settings.requests_per_second,
            ),
            registrations=Registrations(apps=apps, tokens=tokens, leases=leases, hints=store.hints),
        )


def app_address(settings: Settings, name: str) -> AppAddress:
    """The keys and hosts of the app of that name; raises SettingsError when they are not in the settings."""
    app = settings.app(name)
    keys = AppKeys(app_key=app.app_key, app_secret=app.app_secret.get_secret_value())
    return AppAddress(keys, app.api_url, app.auth_url)


def consent_link(settings: Settings, name: str, state: str) -> str:
    """Where a seller consents to the app; raises SettingsError when the settings do not say."""
    app = settings.app(name)
    if not app.service_id:
        variable = "SHOPSYNC_SERVICE_ID" if name == DEFAULT_APP else f"apps.{name}.service_id"
        raise SettingsError(
            f"{variable} must be set to build the consent link: see Partner Center > App & Service > your app"
        )
    return consent_url(app.service_id, state, host=app.consent_url)


def _open_vault(settings: Settings, *, makes_key: bool = True) -> Vault:
    if settings.encryption_key is not None:
        return Vault(split_keys(settings.encryption_key.get_secret_value()))
    if settings.database_url is not None:
        # Listing shops or showing the status works without; whoever needs tokens is told.
        return Vault([])
    path = key_path(settings)
    if not makes_key and not path.exists():
        return Vault([])
    return Vault(load_or_make_keys(path), reread=lambda: load_or_make_keys(path))


def key_path(settings: Settings) -> Path:
    """Where the key of an embedded database is."""
    return settings.data_path / "encryption.key"


def refresher_setup(settings: Settings, database_url: str) -> Setup:
    """What the process that refreshes tokens must know."""
    apps: dict[str, AppSetup] = {}
    for name in settings.app_names:
        with suppress(SettingsError):
            address = app_address(settings, name)
            apps[name] = AppSetup(
                address.keys.app_key, address.keys.app_secret, address.api_url, address.auth_url
            )
    keys = settings.encryption_key
    return Setup(
        database_url=database_url,
        encryption_keys=split_keys(keys.get_secret_value()) if keys is not None else [],
        key_file="" if keys is not None else str(key_path(settings).resolve()),
        apps=apps,
        # What is in force now: a command that shows its progress is quieter than the settings.
        log_level=logging.getLevelName(logging.getLogger().level).lower(),
        log_format=settings.log_format,
    )
