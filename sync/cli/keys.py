"""``shopsync keys``: the keys that encrypt the stored tokens."""

from __future__ import annotations

import asyncio

import typer

from sync.app import Store, key_path, open_store
from sync.cli.state import settings_of
from sync.errors import IncompleteError
from sync.settings import Settings
from sync.store.key_file import add_key, keep_newest, rotating

app = typer.Typer(
    help="The keys that encrypt the stored tokens.", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def _explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command(epilog="Example:  SHOPSYNC_ENCRYPTION_KEY=NEW,OLD shopsync keys rotate")
def rotate(context: typer.Context) -> None:
    """Seal every stored token with the newest key.

    Put the new key before the old one in SHOPSYNC_ENCRYPTION_KEY, separated by a comma, and restart
    shopsync; then run this. With the embedded database it makes the new key itself. It may run
    beside the daemon, and when it is interrupted the same command goes on.
    """
    settings = settings_of(context)
    typer.echo(asyncio.run(_rotate(settings)))


async def _rotate(settings: Settings) -> str:
    if settings.encryption_key is not None or settings.database_url is not None:
        async with open_store(settings) as store:
            return f"{await _reseal(store)}\n{await _advice(store)}"
    path = key_path(settings)
    with rotating(path):
        async with open_store(settings) as store:
            add_key(path)
            report = await _reseal(store)
            while not await store.credentials.end_rotation(lambda: keep_newest(path)):
                await store.credentials.reseal()
            return f"{report}\n{path} holds the new key only: keep a copy of it"


async def _reseal(store: Store) -> str:
    total = sum((await store.credentials.count_by_key()).values())
    resealed, broken = await store.credentials.reseal()
    if broken:
        raise IncompleteError(
            f"{resealed} tokens were sealed anew, but those of credential {', '.join(map(str, broken))} do "
            "not open with their key: connect those shops again, then run this once more; keep the old key"
        )
    return f"{resealed} of {total} stored tokens were sealed anew, the others had the newest key already"


async def _advice(store: Store) -> str:
    newest = store.credentials.newest_key.hex()
    if set(await store.credentials.count_by_key()) - {store.credentials.newest_key}:
        return "a process still seals with an older key: restart it with the new one, then run this again"
    return (
        f"all are sealed with key {newest}: once every shopsync process has it as its first key, the keys "
        "behind it may be dropped"
    )
