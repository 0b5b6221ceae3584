"""A process that refreshes one seller's tokens again and again, to be killed.

It says ``works GENERATION`` after each refresh whose tokens the API accepts, and ``lost`` if none is left.
"""

from __future__ import annotations

import asyncio
import os
import sys

from sync.engine.refresher import AppSetup, Setup
from sync.engine.refresher_line import RefresherLine
from sync.engine.tokens import TokenSource
from sync.errors import NeedsReauthError
from sync.log import set_up_logging
from sync.store.pool import Database
from sync.store.tokens import Credentials
from sync.tiktok.apps import Apps
from sync.tiktok.limiter import Pacer
from sync.tiktok.oauth import list_shops
from tests.support import ENCRYPTION_KEY, decode_key


def _setup() -> Setup:
    url = os.environ["SHOPSYNC_API_URL"]
    app = AppSetup(os.environ["SHOPSYNC_APP_KEY"], os.environ["SHOPSYNC_APP_SECRET"], url, url)
    return Setup(
        database_url=os.environ["SHOPSYNC_DATABASE_URL"],
        encryption_keys=[decode_key(ENCRYPTION_KEY)],
        key_file="",
        apps={"default": app},
        log_level="error",
        log_format="json",
    )


async def main(credential_id: int) -> None:
    """Refreshes until it is killed, or the consent is lost."""
    setup = _setup()
    async with Database(setup.database_url, size=2) as database, Apps(setup.apps, setup.find_app) as apps:
        credentials = Credentials(database, setup.open_vault())
        tokens = TokenSource(credentials, apps, RefresherLine(setup))
        app = apps.get("default")
        try:
            credential = await credentials.read(credential_id)
            while True:
                credential = await tokens.renew(credential_id, seen=credential.generation)
                await list_shops(app.client, app.keys, credential.access_token, pacer=Pacer(1000))
                print(f"works {credential.generation}", flush=True)
        except NeedsReauthError:
            print("lost", flush=True)
        finally:
            await tokens.drain()


if __name__ == "__main__":
    set_up_logging(level="error", log_format="json")
    asyncio.run(main(int(sys.argv[1])))
