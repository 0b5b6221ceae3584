"""``shopsync doctor`` finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from sync.simulator.replies import RefusedError
from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench, Finished, page_of, with_password
from tests.support import execute


@dataclass(frozen=True, slots=True)
class Examined:
    """What the doctor told a program."""

    finished: Finished
    findings: list[dict[str, str]]
    scopes: list[dict[str, Any]]

    def of(self, area: str, *levels: str) -> str:
        """What was found and advised in that area, at those levels (default: not ok)."""
        levels = levels or ("warning", "problem")
        return "\n".join(
            f"{f['level']}: {f['what']} -> {f['todo']}"
            for f in self.findings
            if f["area"] == area and f["level"] in levels
        )

    @property
    def problems(self) -> set[str]:
        return {f["area"] for f in self.findings if f["level"] == "problem"}


async def examine(bench: Bench, **changes: str | None) -> Examined:
    finished = await bench.shopsync("doctor", "--json", **changes)
    told = json.loads(finished.out)
    assert told["exit_code"] == finished.code, finished.err
    return Examined(finished, told["findings"], told["scopes"])


async def test_with_nothing_configured_it_leads_to_an_app(bench: Bench, tmp_path: Path) -> None:
    nothing = {name.removeprefix("SHOPSYNC_"): None for name in bench.environment if "SHOPSYNC_" in name}
    finished = await bench.shopsync("doctor", **nothing, DATA_DIR=str(tmp_path / "data"))
    assert finished.code == 2
    assert "docs/connecting.md" in finished.out
    assert "shopsync init" in finished.out
    assert not (tmp_path / "data").exists()


async def test_a_healthy_set_up_is_called_so_in_the_words_of_the_guide(
    connected: Bench, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("canary-token")
    secret.chmod(0o600)
    public = {"WEB__PUBLIC_URL": "http://127.0.0.1:1", "WEB__TOKEN_FILE": str(secret)}
    assert (await connected.shopsync("run", "--once")).code == 0
    assert (await examine(connected, **public)).of("webhooks").count("shopsync webhooks register") == 3
    assert (await connected.shopsync("webhooks", "register", **public)).code == 0
    # A shop that a daemon is reading is not asked for its webhooks.
    examined = await examine(connected, **public)
    assert examined.finished.code == 0, examined.findings
    assert examined.of("webhooks") == ""
    assert examined.problems == set()
    assert "known by its key and secret" in examined.of("TikTok Shop", "ok")
    assert "the access token works for" in examined.of("sellers", "ok")
    assert examined.of("sync", "ok").endswith("behind -> ")
    assert len(examined.scopes) == 3 * 4
    assert all(check["granted"] for check in examined.scopes)
    for_people = await connected.shopsync("doctor")
    assert for_people.code == 0
    assert "no shopsync process is at work" in for_people.out
    assert "seller.logistics" in for_people.out

    await page_of(await connected.start("run"))
    served = await examine(connected, **public)
    assert "1 shopsync process is at work" in served.of("sync", "ok")
    said = [finding["what"] for finding in (*examined.findings, *served.findings)]
    lines = expected_lines()
    assert len(lines) > 10
    assert [line for line in lines if not any(re.fullmatch(line, what) for what in said)] == []


# What differs from one installation to the next in the lines that the guide shows.
_OWN = {
    r"https?://[\w.:-]+": r"https?://[\\w.:-]+",
    r"services\.\S+ \(US portal\)": r"services\\.\\S+ \\(global portal\\)",
    r"Example \w+": r".+",
    r"\d{4}-\d\d-\d\d": r"[\\d-]+",
    r"\b\d+ shops?": r"\\d+ shops?",
    r"\b(?!12 )\d+\b": r"\\d+",
}


def expected_lines() -> list[str]:
    """What docs/connecting.md shows as the doctor's good lines, as patterns."""
    guide = (Path(__file__).parents[2] / "docs" / "connecting.md").read_text()
    lines = re.findall(r"^  ok       (.+)$", guide, re.MULTILINE)
    for own, pattern in _OWN.items():
        lines = [re.sub(own, pattern, line) for line in lines]
    return lines


async def test_it_changes_nothing_and_asks_little(
    connected: Bench, simulator: RunningSimulator, connection: asyncpg.Connection
) -> None:
    async def rows() -> list[str]:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname IN ('sync', 'tiktok', 'public') ORDER BY 1"
        )
        return [
            await connection.fetchval(
                f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} AS t"
            )
            for (name,) in tables
        ]

    before = await rows()
    simulator.simulation.meter.reset()
    await examine(connected, WEB__PUBLIC_URL="http://127.0.0.1:1")
    assert await rows() == before
    meter = simulator.simulation.meter
    # Two sellers' lists, and the webhooks of three shops; besides, one question about the app.
    assert sum(arrivals.requests for arrivals in meter.arrivals.values()) == 2 + 3
    assert (meter.token_gets, meter.token_refreshes) == (0, 1)


async def test_a_wrong_secret_is_told_apart_from_a_wrong_consent(connected: Bench) -> None:
    examined = await examine(connected, APP_SECRET="canary0000000000000000000000000000000000")
    assert examined.finished.code == 1
    assert "app default is refused" in examined.of("TikTok Shop")
    assert "SHOPSYNC_APP_KEY and SHOPSYNC_APP_SECRET must be of the same app" in examined.of("TikTok Shop")
    assert examined.of("sellers") == ""
    assert "canary" not in examined.finished.out + examined.finished.err


async def test_an_answer_that_proves_nothing_is_no_verdict(
    connected: Bench, simulator: RunningSimulator
) -> None:
    accounts = simulator.simulation.accounts
    refused = RefusedError(36009999, "something new", status=200)

    def refuse(refresh_token: str) -> dict[str, object]:
        raise refused

    accounts.refresh = refuse  # type: ignore[method-assign]
    examined = await examine(connected)
    assert examined.finished.code == 0
    assert "could not be found out" in examined.of("TikTok Shop", "warning")


async def test_an_address_that_is_not_allowed_is_told(connected: Bench, simulator: RunningSimulator) -> None:
    simulator.simulation.faults.add({"fault": "ip_denied"})
    examined = await examine(connected)
    assert "IP allow list" in examined.of("sellers") + examined.of("TikTok Shop")
    assert examined.finished.code == 1


async def test_a_withdrawn_consent_is_a_problem_of_one_seller(
    connected: Bench, simulator: RunningSimulator
) -> None:
    gone, kept = simulator.simulation.accounts.consents.values()
    simulator.simulation.accounts.revoke(gone.seller.open_id)
    examined = await examine(connected)
    assert examined.problems == {"sellers"}
    assert gone.seller.name in examined.of("sellers")
    assert kept.seller.name not in examined.of("sellers")
    assert "shopsync shops connect --app default" in examined.of("sellers")


async def test_an_expired_access_token_and_what_is_not_granted_are_told_without_a_refresh(
    connected: Bench, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "UPDATE sync.credentials SET access_expires_at = now() - interval '1 s',"
        " granted_scopes = array_remove(granted_scopes, 'seller.product.basic')"
    )
    examined = await examine(connected)
    assert examined.problems == set()
    assert "will be refreshed" in examined.of("sellers", "ok")
    assert await connection.fetchval("SELECT max(generation) FROM sync.credentials") == 1
    assert "seller.product.basic is not granted, so products and inventory" in examined.of("scopes")
    assert {c["stream"] for c in examined.scopes if not c["granted"]} == {"products", "inventory"}


async def test_a_new_cipher_and_a_consent_that_ends_soon_are_noticed(
    connected: Bench, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE sync.credentials SET refresh_expires_at = now() + interval '29 days'")
    examined = await examine(connected)
    assert examined.finished.code == 0
    assert examined.of("sellers").count("warning: ") == 2
    assert "nothing is lost" in examined.of("sellers")
    await connection.execute("UPDATE sync.shops SET cipher = 'GCP_old'")
    assert "new cipher" in (await examine(connected)).of("sellers", "warning")


async def test_a_wrong_encryption_key_is_found(connected: Bench) -> None:
    other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    examined = await examine(connected, ENCRYPTION_KEY=other)
    assert "encrypted with key" in examined.of("sellers", "problem")
    assert other not in examined.finished.out


async def test_databases_that_cannot_be_used_are_told_apart(bench: Bench, empty_database_url: str) -> None:
    empty = await examine(bench, DATABASE_URL=with_password(empty_database_url))
    assert "shopsync migrate" in empty.of("database", "problem")
    with socket.socket() as taken:  # Bound and not listening: a connection is refused for certain.
        taken.bind(("127.0.0.1", 0))
        url = with_password(f"postgresql://shopsync@127.0.0.1:{taken.getsockname()[1]}/shopsync")
        away = await examine(bench, DATABASE_URL=url)
    assert "cannot be reached" in away.of("database", "problem")
    assert {empty.finished.code, away.finished.code} == {1}


async def test_a_role_without_rights_is_told_what_it_lacks(
    bench: Bench, database_url: str, server_url: str
) -> None:
    await execute(server_url, "DROP ROLE IF EXISTS doctor_test")
    await execute(server_url, "CREATE ROLE doctor_test LOGIN SUPERUSER")
    await execute(database_url, "ALTER ROLE doctor_test NOSUPERUSER")
    await execute(database_url, "GRANT SELECT ON public.shopsync_scripts TO doctor_test")
    url = database_url.replace("postgres:@", "doctor_test:@", 1)
    try:
        examined = await examine(bench, DATABASE_URL=with_password(url))
    finally:
        await execute(database_url, "DROP OWNED BY doctor_test")
        await execute(server_url, "DROP ROLE doctor_test")
    assert "the role lacks" in examined.of("database", "problem")
    assert "grant it what is missing" in examined.of("database", "problem")


async def test_a_host_that_does_not_answer_is_told_once(connected: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        examined = await examine(connected, API_URL=url)
    assert "cannot be reached" in examined.of("TikTok Shop", "problem")
    assert examined.of("sellers", "ok", "warning", "problem") == ""
    assert examined.problems == {"TikTok Shop"}


async def test_wrong_settings_end_with_2_and_a_line_each(bench: Bench) -> None:
    examined = await examine(bench, SETTLE_S="soon", WEB__PORT="x")
    assert examined.finished.code == 2
    assert examined.of("settings", "problem").count("SHOPSYNC_") == 2
