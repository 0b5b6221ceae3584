"""Consent links, token exchange and refresh, and the list of shops that a token may read."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from sync.errors import AppError, BadRequestError, NeedsReauthError, RequestError, SyncError
from sync.model import AuthorizedShop, Tokens
from sync.tiktok.client import Access, AppKeys, Call, Client
from sync.tiktok.limiter import Pacer


class _TokenBody(msgspec.Struct):
    access_token: str
    access_token_expire_in: int
    refresh_token: str
    refresh_token_expire_in: int
    open_id: str | None = None
    seller_name: str | None = None
    seller_base_region: str | None = None
    granted_scopes: list[str] | None = None


class _ShopBody(msgspec.Struct):
    id: str | int
    cipher: str
    name: str = ""
    region: str = ""
    seller_type: str = ""
    code: str = ""


class _ShopsBody(msgspec.Struct):
    shops: list[_ShopBody] | None = None


def consent_url(service_id: str, state: str, *, host: str) -> str:
    """The page on which a seller allows the app to read the shop."""
    return f"{host}?service_id={quote(service_id, safe='')}&state={quote(state, safe='')}"


async def exchange_code(client: Client, keys: AppKeys, code: str) -> Tokens:
    """The first pair of tokens for a code, which is used up by this. TikTok Shop token/get."""
    try:
        data = await client.ask_token(
            "/api/v2/token/get",
            {
                "app_key": keys.app_key,
                "app_secret": keys.app_secret,
                "auth_code": code,
                "grant_type": "authorized_code",
            },
        )
    except (BadRequestError, NeedsReauthError) as error:
        raise NeedsReauthError(
            f"A code lives 30 minutes and works once: open the consent page again for a new one ({error})"
        ) from None
    tokens = _read_tokens(data, obtained_at=client.clock.latest())
    if not tokens.open_id:
        raise RequestError("the token answer has no open_id, without which sellers cannot be told apart")
    return tokens


async def refresh_tokens(client: Client, keys: AppKeys, refresh_token: str) -> Tokens:
    """A new pair; the old refresh token may be dead after this. TikTok Shop token/refresh.

    Raises NeedsReauthError when TikTok no longer knows the refresh token, RequestError when it
    refuses for a reason that is not known to be final.
    """
    try:
        data = await client.ask_token(
            "/api/v2/token/refresh",
            {
                "app_key": keys.app_key,
                "app_secret": keys.app_secret,
                "refresh_token": refresh_token,
                "grant_type": "refresh_token",
            },
        )
    except (AppError, NeedsReauthError, RequestError):
        raise
    except SyncError as error:
        # An unknown refusal is no proof that the consent is gone: condemning it would stop every
        # shop of the seller for a fault that may be ours.
        raise RequestError(f"The token could not be refreshed; it is tried again ({error})") from None
    return _read_tokens(data, obtained_at=client.clock.latest())


async def list_shops(
    client: Client, keys: AppKeys, access_token: str, *, pacer: Pacer
) -> list[AuthorizedShop]:
    """Every shop of the token's seller. TikTok Shop 202309 Get Authorized Shops."""
    call = Call("GET", "/authorization/202309/shops")
    return read_shops((await client.send(call, Access(keys=keys, token=access_token), pacer=pacer)).data)


def read_shops(data: bytes) -> list[AuthorizedShop]:
    """The shops in the data of an answer to Get Authorized Shops."""
    try:
        body = msgspec.json.decode(data, type=_ShopsBody | None) or _ShopsBody()
    except msgspec.DecodeError as error:
        raise RequestError(f"the list of shops has an unknown shape: {error}") from None
    return [
        AuthorizedShop(
            shop_id=str(s.id),
            name=s.name,
            region=s.region,
            seller_type=s.seller_type,
            code=s.code,
            cipher=s.cipher,
        )
        for s in body.shops or []
    ]


def _read_tokens(data: bytes, *, obtained_at: datetime) -> Tokens:
    try:
        body = msgspec.json.decode(data, type=_TokenBody)
    except msgspec.DecodeError as error:
        # The error names the field, never its value.
        raise RequestError(f"the token answer has an unknown shape: {error}") from None
    try:
        access_expires_at = datetime.fromtimestamp(body.access_token_expire_in, UTC)
        refresh_expires_at = datetime.fromtimestamp(body.refresh_token_expire_in, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(f"the token answer names an impossible expiry: {error}") from None
    return Tokens(
        access_token=body.access_token,
        access_expires_at=access_expires_at,
        refresh_token=body.refresh_token,
        refresh_expires_at=refresh_expires_at,
        obtained_at=obtained_at,
        open_id=body.open_id or "",
        seller_name=body.seller_name or "",
        seller_region=body.seller_base_region or "",
        granted_scopes=tuple(body.granted_scopes or ()),
    )
