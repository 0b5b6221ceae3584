"""The consent pages of the simulator, and the way back to the app."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qsl, urlsplit

from tests.integration.simulator_probe import SHOPS, Answer, Probe, probing

_PAGE, _DECISION = "/open/authorize", "/open/authorize/decision"


async def _answer_consent(allow: str, state: str) -> dict[str, str]:
    async with probing(redirect_url="http://127.0.0.1:9/oauth/callback") as probe:
        asked = {"service_id": probe.running.options.service_id, "state": state}
        page = await probe.send("GET", "/open/authorize", query=asked)
        assert probe.shop.seller.name.encode() in page.raw
        decision = {**asked, "seller": probe.shop.seller.open_id, "allow": allow}
        answer = await probe.send("GET", "/open/authorize/decision", query=decision)
        assert answer.status == 302
        target = urlsplit(answer.headers["Location"])
        assert target.geturl().startswith("http://127.0.0.1:9/oauth/callback?")
        sent = dict(parse_qsl(target.query))
        if allow == "1":
            assert (await probe.tokens("get", auth_code=sent["code"], grant_type="authorized_code")).code == 0
        return sent


async def test_the_consent_page_redirects_with_a_working_code_and_the_state() -> None:
    sent = await _answer_consent("1", "a&b")
    assert set(sent) == {"app_key", "code", "locale", "shop_region", "state"}
    assert sent["state"] == "a&b"


async def test_a_refusal_redirects_with_the_word_null() -> None:
    assert await _answer_consent("0", "") == {"code": "null", "error": "auth_denied"}


async def test_an_unknown_service_does_not_exist() -> None:
    async with probing() as probe:
        page = await probe.send("GET", "/open/authorize", query={"service_id": probe.running.options.app_key})
        assert b"This service does not exist" in page.raw


def _links(page: Answer) -> list[str]:
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', page.raw.decode())]


def _sent_back(answer: Answer) -> dict[str, str]:
    assert answer.status == 302
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


async def _ask(probe: Probe, state: str = "s1") -> dict[str, str]:
    """What the second page's form sends along."""
    asked = {"service_id": probe.running.options.service_id, "state": state}
    first = await probe.send("GET", _PAGE, query=asked)
    (link,) = [one for one in _links(first) if probe.shop.seller.open_id in one]
    second = await probe.send("GET", link)
    assert b"Allow" in second.raw
    assert b"Refuse" in second.raw
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', second.raw.decode())
    return {name: unescape(value) for name, value in hidden}


async def test_a_seller_of_one_shop_is_led_from_page_to_page() -> None:
    async with probing() as probe:
        form = await _ask(probe, state='"><b>&')
        assert form["shop"] == probe.shop.shop_id
        sent = _sent_back(await probe.send("GET", _DECISION, query=form | {"allow": "1"}))
        assert sent["state"] == '"><b>&'
        assert (await probe.tokens("get", auth_code=sent["code"], grant_type="authorized_code")).code == 0


async def test_a_seller_of_several_shops_may_leave_some_out() -> None:
    async with probing(shops=3, shop=1) as probe:
        form = await _ask(probe)
        chosen = form | {"allow": "1", "shop": probe.shop.shop_id}
        sent = _sent_back(await probe.send("GET", _DECISION, query=chosen))
        granted = (await probe.tokens("get", auth_code=sent["code"], grant_type="authorized_code")).data
        listed = (await probe.call("GET", SHOPS, token=granted["access_token"])).data["shops"]
        assert [shop["id"] for shop in listed] == [probe.shop.shop_id]


async def test_a_consent_for_no_shop_is_none() -> None:
    async with probing(shops=3, shop=1) as probe:
        answer = await probe.send("GET", _DECISION, query=await _ask(probe) | {"allow": "1"})
        assert (answer.status, b"at least one shop" in answer.raw) == (200, True)


async def test_seller_center_sends_back_a_code_without_a_state() -> None:
    async with probing() as probe:
        asked = {"service_id": probe.running.options.service_id, "state": "s1"}
        page = await probe.send("GET", _PAGE, query=asked | {"seller": probe.shop.seller.open_id})
        (link,) = [one for one in _links(page) if one.startswith(_DECISION)]
        sent = _sent_back(await probe.send("GET", link))
        assert set(sent) == {"app_key", "code", "locale", "shop_region"}
        assert (await probe.tokens("get", auth_code=sent["code"], grant_type="authorized_code")).code == 0
