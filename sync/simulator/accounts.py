"""Who may call: authorization codes, rotating token pairs, granted scopes, withdrawn consents."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sync.simulator.identifiers import Identifiers
from sync.simulator.options import SimulatorOptions
from sync.simulator.replies import RefusedError
from sync.simulator.shops import Seller

SCOPES = (
    "seller.authorization.info", "seller.order.info", "seller.product.basic", "seller.logistics",
    "seller.return_refund.basic", "seller.finance.info", "seller.fulfillment.basic",
)  # fmt: skip
_CODES_AT_START = 8


@dataclass(slots=True)
class Session:
    """What one access token allows: a seller's shops, the consent's scopes, until ``expires_at``."""

    seller: Seller
    scopes: frozenset[str]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authorization code stands for until ``expires_at``; None is no limit, all that there is."""

    expires_at: float | None = None
    scopes: frozenset[str] | None = None
    shop_ids: frozenset[str] | None = None


@dataclass(slots=True)
class Consent:
    """One seller's present consent; ``is_given`` turns False when it is withdrawn.

    ``is_begun`` turns True with the first exchanged code; ``shop_ids`` None are all of the seller's shops.
    """

    seller: Seller
    is_given: bool = True
    is_begun: bool = False
    scopes: frozenset[str] = frozenset(SCOPES)
    shop_ids: frozenset[str] | None = None
    codes: dict[str, Grant] = field(default_factory=dict)

    def covers(self, shop_id: str) -> bool:
        """Whether the seller let the app have this one of the shops."""
        return self.shop_ids is None or shop_id in self.shop_ids


@dataclass(slots=True)
class _Pair:
    access: str
    session: Session
    refresh_expires_at: float


class Accounts:
    """The token side of the platform; ``now`` is its clock, and ``options`` are read at each call."""

    def __init__(
        self, sellers: list[Seller], *, options: Callable[[], SimulatorOptions], now: Callable[[], float]
    ) -> None:
        self._options = options
        self._now = now
        # Its own numbers, so that tokens do not depend on how many mutations were drawn before.
        self._ids = Identifiers(random.Random(f"accounts {options().seed}"))
        self.consents = {seller.open_id: Consent(seller) for seller in sellers}
        self._sessions: dict[str, Session] = {}
        self._pairs: dict[str, _Pair] = {}
        for consent in self.consents.values():
            # These codes have no clock: a script started hours later may still use them.
            consent.codes = {self._ids.opaque("ROW_", 33): Grant() for _ in range(_CODES_AT_START)}

    def issue_code(
        self, seller: str, *, scopes: Iterable[str] | None = None, shop_ids: Iterable[str] | None = None
    ) -> str:
        """A fresh single-use code of the seller with this open_id or name, good for half an hour.

        ``scopes`` and ``shop_ids`` limit what it grants. Raises KeyError when there is no such seller.
        """
        for consent in self.consents.values():
            if seller in (consent.seller.open_id, consent.seller.name):
                code = self._ids.opaque("ROW_", 33)
                consent.codes[code] = Grant(
                    self._now() + self._options().auth_code_life_s,
                    None if scopes is None else frozenset(scopes),
                    None if shop_ids is None else frozenset(shop_ids),
                )
                return code
        raise KeyError(seller)

    def exchange(self, code: str) -> dict[str, object]:
        """A first token pair for an unused code; the seller's consent stands (again), as the code grants."""
        for consent in self.consents.values():
            if code in consent.codes:
                grant = consent.codes.pop(code)
                if grant.expires_at is not None and grant.expires_at < self._now():
                    break
                consent.is_given = consent.is_begun = True
                consent.shop_ids = grant.shop_ids
                return self._issue(
                    consent, consent.scopes if grant.scopes is None else consent.scopes & grant.scopes
                )
        raise RefusedError(36004004, "invalid auth code")

    def refresh(self, refresh_token: str) -> dict[str, object]:
        """A new pair in place of an old one; what becomes of the old one is an option."""
        pair = self._pairs.get(refresh_token)
        if pair is None:
            raise RefusedError(36004005, "can not find related auth record")
        consent = self.consents[pair.session.seller.open_id]
        if not consent.is_given:
            raise RefusedError(36004005, "can not find related auth record")
        if pair.refresh_expires_at <= self._now():
            raise RefusedError(36004001, "rt has expired")
        if self._options().old_refresh_dies:
            del self._pairs[refresh_token]
        if self._options().old_access_dies:
            self._sessions.pop(pair.access, None)
        return self._issue(consent, pair.session.scopes & consent.scopes)

    def session_of(self, access_token: str) -> Session:
        """What this token allows now. Raises RefusedError for an unknown, expired or withdrawn one."""
        session = self._sessions.get(access_token)
        if session is None:
            raise RefusedError(36009004, "Invalid credentials. The 'x-tts-access-token' header is invalid.")
        if not self.consents[session.seller.open_id].is_given:
            raise self._withdrawn()
        if session.expires_at <= self._now():
            raise RefusedError(105002, status=self._options().expired_token_status)
        return session

    def meter_key(self, access_token: str) -> str | None:
        """Under which name a call without a shop is counted; None for a stranger's."""
        session = self._sessions.get(access_token)
        return f"seller:{session.seller.open_id}" if session else None

    def allowed(self, session: Session) -> frozenset[str]:
        """The scopes that hold: those of the token that the seller has not taken back since."""
        return session.scopes & self.consents[session.seller.open_id].scopes

    def revoke(self, open_id: str) -> None:
        """The seller's consent is withdrawn: no token of it works or can be refreshed."""
        self.consents[open_id].is_given = False
        self._pairs = {
            key: pair for key, pair in self._pairs.items() if pair.session.seller.open_id != open_id
        }

    def expire_access_tokens(self) -> int:
        """Every access token has expired; refresh tokens live on. Returns how many were alive."""
        alive = [session for session in self._sessions.values() if session.expires_at > self._now()]
        for session in alive:
            session.expires_at = self._now()
        return len(alive)

    def _withdrawn(self) -> RefusedError:
        code = self._options().revoked_code
        message = "Invalid credentials. The 'access_token' is invalid." if code == 36009004 else ""
        return RefusedError(code, message, status=401)

    def _issue(self, consent: Consent, scopes: frozenset[str]) -> dict[str, object]:
        now, options, seller = self._now(), self._options(), consent.seller
        access, refresh = self._ids.opaque("TTP_", 54), self._ids.opaque("TTP_", 48)
        expires_at, refresh_expires_at = now + options.access_token_life_s, now + options.refresh_token_life_s
        session = Session(seller, scopes, float(int(expires_at)))
        self._sessions[access] = session
        self._pairs[refresh] = _Pair(access, session, float(int(refresh_expires_at)))
        return {
            "access_token": access,
            "access_token_expire_in": int(expires_at),
            "granted_scopes": sorted(scopes),
            "open_id": seller.open_id,
            "refresh_token": refresh,
            "refresh_token_expire_in": int(refresh_expires_at),
            "seller_base_region": seller.region,
            "seller_name": seller.name,
            "user_type": 0,
        }
