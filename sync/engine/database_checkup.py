"""Checks of the database: reachable, new enough, at this version, with the rights and room it takes."""

from __future__ import annotations

from sync.engine.findings import Finding
from sync.errors import DatabaseError
from sync.store.inspection import Inspection, ServerFacts

_AREA = "database"
# Besides the pool: the leases' connection, the refresher's, and one for a command of a person.
_BESIDES = 3


async def check_database(inspection: Inspection, *, pool_size: int) -> tuple[list[Finding], bool]:
    """The findings, and whether the tables can be read."""
    try:
        facts = await inspection.server_facts()
        missing = await inspection.pending()
    except DatabaseError as error:
        return [Finding(_AREA, "problem", *_split(str(error)))], False
    findings = [Finding(_AREA, "ok", f"PostgreSQL {facts.version} answers"), *_check_room(facts, pool_size)]
    if facts.is_read_only:
        todo = "give the address of the primary server in SHOPSYNC_DATABASE_URL"
        findings.append(Finding(_AREA, "problem", "the database can only be read", todo))
    if missing:
        findings.append(_describe_missing(missing, facts))
        return findings, False
    lacking = await inspection.missing_rights()
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        todo = "connect as the role that ran `shopsync migrate`, or grant it what is missing"
        findings.append(Finding(_AREA, "problem", f"the role lacks {shown}", todo))
        return findings, False
    findings.append(Finding(_AREA, "ok", "the tables are there, at this version, and may be written"))
    return findings, True


def _describe_missing(missing: list[str], facts: ServerFacts) -> Finding:
    if not facts.may_create:
        todo = "GRANT CREATE ON DATABASE to the role, then run `shopsync migrate`"
        return Finding(_AREA, "problem", "the tables are missing, and the role may not make them", todo)
    return Finding(_AREA, "problem", f"the database lacks {len(missing)} scripts", "run `shopsync migrate`")


def _check_room(facts: ServerFacts, pool_size: int) -> list[Finding]:
    wanted, most = pool_size + _BESIDES, facts.max_connections - facts.reserved
    if wanted > most:
        todo = "lower SHOPSYNC_DATABASE_POOL_SIZE, or raise max_connections"
        what = f"a process may use {wanted} connections, and the server has {most} in all"
        return [Finding(_AREA, "problem", what, todo)]
    if not facts.at_work and wanted > most - facts.in_use:
        todo = "lower SHOPSYNC_DATABASE_POOL_SIZE, raise max_connections, or see who holds so many"
        what = f"a process may use {wanted} connections, and {most - facts.in_use} of {most} are free"
        return [Finding(_AREA, "warning", what, todo)]
    return []


def _split(message: str) -> tuple[str, str]:
    """What is the case, and what to do: our errors end with that as a sentence of its own."""
    what, dot, todo = message.rpartition(". ")
    return (what, todo) if dot else (message, "")
