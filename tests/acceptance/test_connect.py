"""``shopsync shops connect`` from the link to the connected shops, as a seller and an operator see it."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from sync.simulator.server import RunningSimulator
from tests.acceptance.processes import Bench, Finished, Process, page_of, until

_LINK = re.compile(r"^ +(http\S+state=\S+)$", re.MULTILINE)
CROSS_BORDER = 1


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def asking(bench: Bench, simulator: RunningSimulator, port: int) -> Bench:
    """Processes that know the simulator's consent page, and where sellers come back to."""
    bench.environment |= {
        "SHOPSYNC_SERVICE_ID": simulator.options.service_id,
        "SHOPSYNC_CONSENT_URL": f"{simulator.url}/open/authorize",
        "SHOPSYNC_WEB__PORT": str(port),
    }
    simulator.change_options(redirect_url=f"http://127.0.0.1:{port}/oauth/callback")
    return bench


async def link_of(process: Process) -> str:
    async def is_told() -> bool:
        assert process.is_running, process.err
        return "Ctrl-C ends the wait" in process.out

    await until(is_told, "the link is printed")
    (link,) = _LINK.findall(process.out)
    return str(link)


async def decide(simulator: RunningSimulator, link: str, *, allow: bool, place: int = CROSS_BORDER) -> str:
    """Where the seller's browser ends up."""
    open_id = list(simulator.simulation.accounts.consents)[place]
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    query |= {"seller": open_id, "allow": "1" if allow else "0"}
    jar = aiohttp.CookieJar(unsafe=True)
    url = f"{simulator.url}/open/authorize/decision?{urlencode(query)}"
    async with aiohttp.ClientSession(cookie_jar=jar) as session, session.get(url) as answer:
        return await answer.text()


def one_line(finished: Finished) -> str:
    assert finished.code == 1, finished.err
    (line,) = finished.complaints
    return line


async def test_the_command_listens_for_the_seller_by_itself(
    asking: Bench, simulator: RunningSimulator, port: int
) -> None:
    command = await asking.start("shops", "connect")
    shown = await decide(simulator, await link_of(command), allow=True)
    assert "2 shops are connected" in shown
    assert "<form" not in shown
    finished = await command.finish(within_s=20)
    assert finished.code == 0, finished.err
    assert f"http://127.0.0.1:{port}/oauth/callback" in finished.out
    assert len(re.findall(r"^connected \d+", finished.out, re.MULTILINE)) == 2
    assert "shopsync backfill" in finished.out


async def test_the_daemon_hears_the_seller_for_the_command(
    asking: Bench, simulator: RunningSimulator
) -> None:
    for consent in simulator.simulation.accounts.consents.values():
        consent.scopes = frozenset({"seller.authorization.info", "seller.order.info", "seller.logistics"})
    daemon = await asking.start("run")
    await page_of(daemon)
    command = await asking.start("shops", "connect")
    assert "<form" in await decide(simulator, await link_of(command), allow=True)
    finished = await command.finish(within_s=20)
    assert finished.code == 0, finished.err
    assert len(re.findall(r"^connected \d+", finished.out, re.MULTILINE)) == 2
    assert "missing: the scope seller.product.basic: products and inventory cannot be read" in finished.out
    daemon.send(signal.SIGTERM)
    assert (await daemon.finish(within_s=25)).code == 0


async def test_a_refusal_ends_the_wait_with_one_line(asking: Bench, simulator: RunningSimulator) -> None:
    command = await asking.start("shops", "connect")
    assert "did not allow" in await decide(simulator, await link_of(command), allow=False)
    assert "refused" in one_line(await command.finish(within_s=20))


async def test_a_seller_who_does_not_come_ends_the_wait_with_one_line(asking: Bench) -> None:
    finished = await asking.shopsync("shops", "connect", "--timeout", "1")
    assert "no seller came back in time" in one_line(finished)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
async def test_a_signal_ends_the_wait(asking: Bench, number: signal.Signals, code: int) -> None:
    command = await asking.start("shops", "connect")
    await link_of(command)
    command.send(number)
    assert (await command.finish(within_s=20)).code == code


async def test_where_nobody_can_listen_the_address_is_brought_by_hand(
    asking: Bench, simulator: RunningSimulator, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        finished = await asking.shopsync("shops", "connect")
    line = one_line(finished)
    assert f"port {port}" in line
    assert "--code 'ADDRESS'" in line
    (link,) = _LINK.findall(finished.out)
    address = (
        simulator.options.redirect_url
        + f"?app_key={simulator.options.app_key}&state={parse_qs(urlsplit(link).query)['state'][0]}"
        + f"&code={simulator.sellers()[CROSS_BORDER].code}"
    )
    brought = await asking.shopsync("shops", "connect", "--code", address)
    assert brought.code == 0, brought.err
    assert len(re.findall(r"^connected \d+", brought.out, re.MULTILINE)) == 2
    again = await asking.shopsync("shops", "connect", "--code", address)
    assert (again.code, "answered already" in again.err) == (2, True)


async def test_an_address_of_a_refusal_connects_nothing(asking: Bench) -> None:
    finished = await asking.shopsync("shops", "connect", "--code", "http://x/?code=null&error=auth_denied")
    assert "refused" in one_line(finished)


@pytest.mark.parametrize("code", ["", "http://127.0.0.1/oauth/callback?code=&state=x"])
async def test_an_address_without_a_code_is_explained(asking: Bench, code: str) -> None:
    finished = await asking.shopsync("shops", "connect", "--code", code)
    assert finished.code == 2
    assert "--code" in finished.err


async def test_the_only_app_needs_no_name_and_an_unknown_one_is_told_the_known(
    asking: Bench, simulator: RunningSimulator, tmp_path: Path
) -> None:
    file = tmp_path / "one.toml"
    file.write_text(f'[apps.global]\napp_key = "{simulator.options.app_key}"\n')
    changes = {"APP_KEY": None, "APP_SECRET": None, "APPS__GLOBAL__APP_SECRET": simulator.options.app_secret}
    code = simulator.sellers()[CROSS_BORDER].code
    finished = await asking.shopsync("--config", str(file), "shops", "connect", "--code", code, **changes)
    assert finished.code == 0, finished.err
    finished = await asking.shopsync("--config", str(file), "shops", "connect", "--app", "moon", **changes)
    assert finished.code == 2
    assert "known are default, global" in finished.err
