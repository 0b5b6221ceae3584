"""``shopsync webhooks`` sets and takes away what is ours, shop by shop, and leaves the rest alone."""

from __future__ import annotations

import pytest

from sync.engine.registrations import EVENT_TYPES
from sync.simulator.server import RunningSimulator
from sync.store.leases import LeaseKeeper
from tests.acceptance.conftest import RunHere
from tests.acceptance.processes import Bench

OURS = "http://127.0.0.1:1/webhooks/tiktok"
PUBLIC = {"WEB__PUBLIC_URL": "http://127.0.0.1:1", "WEB__TOKEN": "canary-token"}


def registered(simulator: RunningSimulator, shop_id: str) -> dict[str, str]:
    """What the shop's notifications go to, by event type."""
    webhooks = simulator.simulation.webhooks.by_shop.get(shop_id, {})
    return {name: webhook.address for name, webhook in webhooks.items()}


def changes(simulator: RunningSimulator) -> int:
    """Requests to the configuration of webhooks, those that only read it left out."""
    arrivals = simulator.simulation.meter.arrivals.values()
    total = sum(one.by_path["/event/202309/webhooks"] for one in arrivals)
    return total - len(simulator.world.shops)


async def test_registering_again_sends_only_what_differs(
    connected: Bench, simulator: RunningSimulator
) -> None:
    first = await connected.shopsync("webhooks", "register", **PUBLIC)
    assert first.code == 0, first.err
    assert "Partner Center" in first.err
    assert "71" in first.err
    for shop_id in simulator.world.shops:
        assert registered(simulator, shop_id) == dict.fromkeys(EVENT_TYPES, OURS)

    one = next(iter(simulator.world.shops))
    del simulator.simulation.webhooks.by_shop[one]["ORDER_STATUS_CHANGE"]
    simulator.simulation.meter.reset()
    again = await connected.shopsync("webhooks", "register", **PUBLIC)
    assert again.code == 0
    assert changes(simulator) == 1
    assert again.out.count("registered already") == 2
    assert set(registered(simulator, one)) == set(EVENT_TYPES)


async def test_one_shop_s_failure_costs_one_shop(connected: Bench, simulator: RunningSimulator) -> None:
    gone, *others = simulator.world.shops.values()
    gone.is_active = False
    finished = await connected.shopsync("webhooks", "register", **PUBLIC)
    assert finished.code == 1
    assert [line for line in finished.complaints if gone.shop_id in line]
    assert registered(simulator, gone.shop_id) == {}
    assert all(registered(simulator, shop.shop_id) for shop in others)


async def test_only_what_points_to_us_is_removed(connected: Bench, simulator: RunningSimulator) -> None:
    one = next(iter(simulator.world.shops))
    assert (await connected.shopsync("webhooks", "register", "--shop", one, **PUBLIC)).code == 0
    other = await connected.shopsync("webhooks", "register", "--shop", one, "--url", "http://127.0.0.1:2/x")
    assert f"they went to {OURS} before" in other.out
    simulator.simulation.webhooks.by_shop[one].pop("PRODUCT_CREATION")
    assert (await connected.shopsync("webhooks", "register", "--shop", one, **PUBLIC)).code == 0
    address = simulator.simulation.webhooks.by_shop[one]["ORDER_STATUS_CHANGE"]
    theirs = type(address)("http://127.0.0.1:3/their/hook", address.create_time, address.update_time)
    simulator.simulation.webhooks.by_shop[one]["ORDER_STATUS_CHANGE"] = theirs

    removed = await connected.shopsync("webhooks", "remove", "--shop", one)
    assert removed.code == 0
    assert f"{len(EVENT_TYPES) - 1} event types removed; 1 of other programs stay" in removed.out
    assert registered(simulator, one) == {"ORDER_STATUS_CHANGE": "http://127.0.0.1:3/their/hook"}
    listed = await connected.shopsync("webhooks", "list", "--shop", one)
    assert "http://127.0.0.1:3/their/hook" in listed.out


async def test_a_shop_that_another_process_keeps_is_not_asked_for_anything(
    connected: Bench, simulator: RunningSimulator, database_url: str
) -> None:
    one = next(iter(simulator.world.shops))
    async with LeaseKeeper(database_url) as keeper:
        assert await keeper.acquire(one) is not None
        simulator.simulation.meter.reset()
        finished = await connected.shopsync("webhooks", "list", "--shop", one)
        assert sum(one.requests for one in simulator.simulation.meter.arrivals.values()) == 0
    assert finished.code == 1
    assert any("another process is reading this shop" in line for line in finished.complaints)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "SHOPSYNC_WEB__PUBLIC_URL"),
        (("--url", "http://sync.example.com/hook"), "https://"),
        (("--url", "https://192.0.2.7/hook"), "domain name"),
        (("--url", "https://sync.example.com:8443/hook"), "no port"),
    ],
)
def test_a_wrong_address_is_explained(run_here: RunHere, arguments: tuple[str, ...], says: str) -> None:
    finished = run_here("webhooks", "register", *arguments)
    assert finished.code == 2
    assert any(says in line for line in finished.complaints)


async def test_a_shop_or_app_that_is_not_there_is_explained(connected: Bench) -> None:
    for arguments, says in (
        (("register", "--shop", "123", "--url", "https://sync.example.com/hook"), "123"),
        (("list", "--app", "nobody"), "shopsync shops list"),
    ):
        finished = await connected.shopsync("webhooks", *arguments)
        assert finished.code == 2, arguments
        assert any(says in line for line in finished.complaints), arguments
