"""From a seller's consent to connected shops."""

from __future__ import annotations

import structlog

from sync.engine.tokens import TokenSource
from sync.errors import NeedsReauthError
from sync.model import AuthorizedShop
from sync.store.cursors import Cursors
from sync.store.shops import Shops
from sync.streams.registry import STREAMS
from sync.tiktok.apps import Apps
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import exchange_code, list_shops

log = structlog.get_logger(__name__)


class Onboarding:
    """Connects sellers."""

    def __init__(
        self,
        *,
        apps: Apps,
        shops: Shops,
        cursors: Cursors,
        tokens: TokenSource,
        requests_per_second: float,
    ) -> None:
        self._apps = apps
        self._shops = shops
        self._cursors = cursors
        self._tokens = tokens
        self._pacer = Pacer(requests_per_second)

    async def connect(self, code: str, *, app: str) -> list[AuthorizedShop]:
        """Every shop of the seller who consented is connected and due to be synced.

        Raises NeedsReauthError when the code is used up or the consent reaches no shop.
        """
        portal = self._apps.get(app)
        tokens = await exchange_code(portal.client, portal.keys, code)
        shops = await list_shops(portal.client, portal.keys, tokens.access_token, pacer=self._pacer)
        if not shops:
            raise NeedsReauthError(
                f"the consent of {tokens.seller_name or 'this seller'} reaches no shop: "
                "the seller must consent with the account that owns the shop"
            )
        await self._shops.connect(app, tokens, shops, fetched_at=portal.client.clock.now())
        for shop in shops:
            await self._cursors.ensure(shop.shop_id, list(STREAMS))
            await self._cursors.make_due(shop.shop_id)
            log.info("shop_connected", shop_id=shop.shop_id, region=shop.region, app=app)
        for row in await self._shops.list([shop.shop_id for shop in shops]):
            self._tokens.forget(row.shop.credential_id)
        return shops
