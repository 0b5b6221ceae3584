"""A look at the database that changes nothing in it."""

from __future__ import annotations

from dataclasses import dataclass

from sync.store.migrations import pending
from sync.store.pool import Database


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server as this role sees it. ``at_work`` counts shopsync processes that read shops."""

    version: int
    is_read_only: bool
    max_connections: int
    reserved: int
    in_use: int
    at_work: int
    may_create: bool


class Inspection:
    """Answers what stands between a database and the sync."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def server_facts(self) -> ServerFacts:
        """The server's version, limits and guests."""
        (row,) = await self._database.rows("server_facts")
        return ServerFacts(**dict(row))

    async def pending(self) -> list[str]:
        """The scripts that have not run here. Raises DatabaseError when the server cannot be used."""
        async with self._database.connection() as connection:
            return await pending(connection)

    async def missing_rights(self) -> list[str]:
        """What the role lacks, a line each."""
        return [row["missing"] for row in await self._database.rows("missing_rights")]
