"""From a seller's consent to connected shops."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from sync.engine.tokens import TokenSource
from sync.errors import AppError, ConsentError, NeedsReauthError, ScopeError, SettingsError, SyncError
from sync.model import AuthorizedShop, Tokens
from sync.store.consents import Connection, Consent, Consents, WaitingSeller
from sync.store.shops import Shops
from sync.streams.registry import STREAMS
from sync.tiktok.apps import Apps, ConnectedApp
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import exchange_code, list_shops

log = structlog.get_logger(__name__)

# The seller may have to log in, or to find whoever knows the password.
STATE_LIFE_S = 3600
# 256 bits, as `token_urlsafe` writes them.
_STATE_BYTES = 32
_STATE_CHARS = 43

SHOPS_SCOPE = "seller.authorization.info"
_AGAIN = "begin again with `shopsync shops connect`, or at the link that you were given"


@dataclass(frozen=True, slots=True)
class MissingScope:
    """A scope that was not granted, and the streams that are not read for want of it."""

    scope: str
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """A consent that waits for its seller. ``digest`` names it; the link holds its secret state."""

    link: str = field(repr=False)
    digest: bytes


@dataclass(slots=True)
class Attempt:
    """A code on its way to tokens. Kept by whoever may try again: a code is good for half an hour.

    ``digest`` names the consent that was begun here; None when nobody here asked for the code.
    """

    app: str
    code: str = field(repr=False)
    digest: bytes | None = None
    is_asked: bool = True
    tokens: Tokens | None = field(default=None, repr=False)
    exchanged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """What a consent led to."""

    app: str
    seller_name: str
    shops: tuple[AuthorizedShop, ...]
    missing: tuple[MissingScope, ...]
    connection: Connection

    @property
    def is_waiting(self) -> bool:
        """True when nothing is connected until a person here confirms the seller."""
        return self.connection.is_waiting


def missing_scopes(granted: Iterable[str]) -> tuple[MissingScope, ...]:
    """What the seller has not granted of what the streams need; nothing where TikTok named no scope."""
    held = frozenset(granted)
    needs: dict[str, list[str]] = {SHOPS_SCOPE: []}
    for stream in STREAMS.values():
        needs.setdefault(stream.scope, []).append(stream.name)
    return tuple(MissingScope(s, tuple(names)) for s, names in needs.items() if held and s not in held)


class Onboarding:
    """Connects sellers. ``link_of`` makes the consent link of an app and a state."""

    def __init__(
        self,
        *,
        apps: Apps,
        shops: Shops,
        consents: Consents,
        tokens: TokenSource,
        link_of: Callable[[str, str], str],
        requests_per_second: float,
    ) -> None:
        self._apps = apps
        self._shops = shops
        self._consents = consents
        self._tokens = tokens
        self._link_of = link_of
        self._pacer = Pacer(requests_per_second)

    @property
    def app_names(self) -> Sequence[str]:
        return self._apps.names

    async def begin(self, app: str) -> Begun:
        """A link for one consent, for an hour. Raises SettingsError when the app is not configured."""
        state = secrets.token_urlsafe(_STATE_BYTES)
        begun = Begun(self._link_of(app, state), _digest(state))
        await self._consents.begin(begun.digest, app, life_s=STATE_LIFE_S)
        return begun

    async def accept(self, state: str, code: str, *, app_key: str = "") -> Attempt:
        """The attempt that the state allows, once. Raises ConsentError when it does not (any more)."""
        app = await self._take(state)
        digest = _digest(state)
        if app_key and app_key != self._apps.get(app).keys.app_key:
            why = ConsentError("mixed_up", f"this answer belongs to another app than the consent: {_AGAIN}")
            await self._fail(digest, why)
            raise why
        return Attempt(app, code, digest=digest)

    async def refuse(self, state: str) -> None:
        """Whoever waits for the consent hears that the seller refused. Raises ConsentError like accept."""
        app = await self._take(state)
        log.info("consent_refused", app=app)
        await self._consents.settle(_digest(state), "refused", message="the seller refused the access")

    def attempts(self, code: str, *, app_key: str = "") -> list[Attempt]:
        """What to try with a code that nobody here asked for: the app of that key, or each in turn.

        Raises ConsentError when it belongs to no app of the settings.
        """
        names = [app.name for app in self._complete_apps() if app_key in ("", app.keys.app_key)]
        if not names:
            raise ConsentError("foreign", "this answer belongs to an app that is not in the settings")
        return [Attempt(name, code, is_asked=False) for name in names]

    async def connect(self, code: str, *, app: str) -> Connected:
        """Like ``finish`` for a code that a person here has brought."""
        return await self.finish(Attempt(app, code))

    async def finish(self, attempt: Attempt) -> Connected:
        """Every shop of the seller who consented is connected and due to be synced.

        Raises ConsentError when the code is used up or the consent reaches no shop. After any other
        error the same attempt may be tried again: a code is spent only once.
        """
        app = self._apps.get(attempt.app)
        try:
            if attempt.tokens is None:
                # Also: no code is spent while there is no database to keep its tokens in.
                attempt.exchanged_at = await self._consents.moment()
                attempt.tokens = await _exchange(app, attempt.code)
            shops = await self._list(app, attempt.tokens.access_token)
        except (NeedsReauthError, AppError) as error:
            log.warning("consent_failed", app=attempt.app, reason=str(error))
            await self._fail(attempt.digest, error)
            raise
        connection = await self._shops.connect(
            attempt.app,
            attempt.tokens,
            shops,
            fetched_at=app.client.clock.now(),
            streams=list(STREAMS),
            consented_at=attempt.exchanged_at,
            is_asked=attempt.is_asked,
            settles=attempt.digest,
        )
        connected = Connected(
            app=attempt.app,
            seller_name=attempt.tokens.seller_name,
            shops=tuple(shops),
            missing=missing_scopes(attempt.tokens.granted_scopes),
            connection=connection,
        )
        self._tell(connected)
        return connected

    async def waiting(self) -> list[WaitingSeller]:
        """The sellers who consented without being asked, and wait to be confirmed."""
        return await self._consents.waiting()

    async def confirm(self, seller: WaitingSeller) -> Connected | None:
        """The waiting seller's shops are connected; None when somebody else has dealt with the seller."""
        app = self._apps.get(seller.app)
        credential = await self._tokens.current(seller.credential_id)
        shops = await self._list(app, credential.access_token)
        connection = await self._consents.confirm(
            seller.credential_id, shops, fetched_at=app.client.clock.now(), streams=list(STREAMS)
        )
        if connection is None:
            return None
        rows = await self._shops.list([shop.shop_id for shop in shops])
        granted = rows[0].shop.granted_scopes if rows else frozenset[str]()
        connected = Connected(seller.app, seller.name, tuple(shops), missing_scopes(granted), connection)
        self._tell(connected)
        return connected

    async def send_away(self, seller: WaitingSeller) -> bool:
        """True when the waiting seller is forgotten, tokens and all."""
        return await self._consents.send_away(seller.credential_id)

    async def choose(self, connected: Connected, keep: Iterable[str]) -> Connected:
        """Of the shops that the consent connected only these stay connected."""
        kept = frozenset(keep)
        states = dict(connected.connection.states)
        for shop_id in [shop_id for shop_id, state in states.items() if state != "disconnected"]:
            if shop_id not in kept and await self._shops.disconnect(shop_id):
                states[shop_id] = "disconnected"
                log.info("shop_left_out", shop_id=shop_id, app=connected.app)
        return replace(connected, connection=replace(connected.connection, states=tuple(states.items())))

    async def read(self, begun: Begun) -> Consent | None:
        """How far the consent has come."""
        return await self._consents.read(begun.digest)

    async def is_begun(self, digest: bytes) -> bool:
        """True when the consent of that digest was begun in this database."""
        return await self._consents.read(digest) is not None

    def _complete_apps(self) -> Iterator[ConnectedApp]:
        for name in self._apps.names:
            with suppress(SettingsError):
                yield self._apps.get(name)

    async def _take(self, state: str) -> str:
        if len(state) != _STATE_CHARS:
            raise _explain_state("unknown")
        digest = _digest(state)
        app = await self._consents.take(digest)
        if app is None:
            known = await self._consents.read(digest)
            raise _explain_state("unknown" if known is None else "used" if known.is_used else "expired")
        return app

    async def _list(self, app: ConnectedApp, access_token: str) -> list[AuthorizedShop]:
        try:
            shops = await list_shops(app.client, app.keys, access_token, pacer=self._pacer)
        except ScopeError:
            raise ConsentError(
                "scopeless",
                f"the app may not ask which shops there are: switch {SHOPS_SCOPE} on in Partner Center > "
                "Manage API, then let the seller consent again",
            ) from None
        if not shops:
            raise ConsentError(
                "shopless",
                "this consent reaches no shop: the seller must consent with the account that owns the shop",
            )
        return shops

    async def _fail(self, digest: bytes | None, error: SyncError) -> None:
        if digest is not None:
            await self._consents.settle(digest, "failed", message=str(error))

    def _tell(self, connected: Connected) -> None:
        self._tokens.forget(connected.connection.credential_id)
        if connected.is_waiting:
            log.warning("seller_waits", app=connected.app, shops=len(connected.shops))
        for shop_id, state in connected.connection.states:
            log.info("shop_connected", shop_id=shop_id, app=connected.app, state=state)
        for shop_id in connected.connection.unreached:
            log.warning("shop_unreached", shop_id=shop_id, app=connected.app)


async def _exchange(app: ConnectedApp, code: str) -> Tokens:
    try:
        return await exchange_code(app.client, app.keys, code)
    except NeedsReauthError:
        # TikTok's own words may repeat the code.
        raise ConsentError(
            "code",
            "the code is not accepted: a code lives 30 minutes and works once; open the consent page again "
            "for a new one",
        ) from None


def _explain_state(why: str) -> ConsentError:
    if why == "used":
        return ConsentError("used", f"this consent was answered already: {_AGAIN}")
    if why == "expired":
        return ConsentError("expired", f"this consent took more than an hour: {_AGAIN}")
    return ConsentError("unknown", f"this consent was not begun here, or long ago: {_AGAIN}")


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode("utf-8", "replace")).digest()
