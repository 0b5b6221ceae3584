"""The seller's side of an authorization: the consent page, the redirect, and the token calls."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

import msgspec

from sync.simulator.replies import RefusedError, Reply, frame, refuse
from sync.simulator.simulation import Simulation

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Authorize app (simulator)</title>
<style>body{{font:16px system-ui;max-width:36rem;margin:4rem auto;line-height:1.5}}
li{{margin:.8rem 0}}a{{margin-right:1rem}}</style></head>
<body>{content}</body></html>
"""


def show_consent(query: Mapping[str, str], simulation: Simulation) -> Reply:
    """The page where a seller allows or refuses the app; any other service id does not exist."""
    if query.get("service_id") != simulation.options.service_id:
        return _page("<h1>This service does not exist</h1>")
    items = []
    for consent in simulation.accounts.consents.values():
        seller = consent.seller
        shops = ", ".join(escape(shop.name) for shop in simulation.world.shops_of(seller.open_id))
        links = " ".join(
            _link(query, seller.open_id, allow=allow, label=label)
            for allow, label in (("1", "Allow"), ("0", "Refuse"))
        )
        items.append(f"<li><b>{escape(seller.name)}</b> ({escape(seller.region)}): {shops}<br>{links}</li>")
    return _page(
        "<h1>Allow this app to read your shop?</h1><p>Simulated TikTok Shop: choose who answers.</p>"
        f"<ul>{''.join(items)}</ul>"
    )


def decide(query: Mapping[str, str], simulation: Simulation) -> Reply:
    """The redirect to the app's own URL, with a code or the refusal; a state is sent back."""
    consent = simulation.accounts.consents.get(query.get("seller", ""))
    if query.get("service_id") != simulation.options.service_id or consent is None:
        return _page("<h1>This service does not exist</h1>")
    if query.get("allow") == "1":
        answer = {
            "app_key": simulation.options.app_key,
            "code": simulation.accounts.issue_code(consent.seller.open_id),
            "locale": "en",
            "shop_region": consent.seller.region,
        }
    else:
        # The literal text null, as the platform sends it.
        answer = {"code": "null", "error": "auth_denied"}
    if query.get("state"):
        answer["state"] = query["state"]
    url = simulation.options.redirect_url
    location = f"{url}{'&' if '?' in url else '?'}{urlencode(answer)}"
    return Reply(b"", 302, {"Location": location}, "text/html")


def answer_token_call(
    kind: str, query: Mapping[str, str], *, simulation: Simulation, request_id: str
) -> Reply:
    """The envelope of token/get or token/refresh; every failure comes with status 200.

    An unknown app or a wrong secret is 98001006, a missing parameter or another grant type 98001004.
    """
    options, accounts = simulation.options, simulation.accounts
    try:
        if query.get("app_key") != options.app_key or query.get("app_secret") != options.app_secret:
            raise RefusedError(98001006, "app_key or app_secret is invalid", status=200)
        name, grant = (
            ("auth_code", "authorized_code") if kind == "get" else ("refresh_token", "refresh_token")
        )
        if query.get("grant_type") != grant or not query.get(name):
            raise RefusedError(98001004, f"invalid param: {name} or grant_type", status=200)
        data = accounts.exchange(query[name]) if kind == "get" else accounts.refresh(query[name])
    except RefusedError as refused:
        simulation.meter.codes[refused.code] += 1
        return refuse(refused, request_id)
    before, after = frame(request_id)
    return Reply(before + msgspec.json.encode(data) + after)


def _link(query: Mapping[str, str], open_id: str, *, allow: str, label: str) -> str:
    state = query.get("state", "")
    asked = {"service_id": query["service_id"], "state": state, "seller": open_id, "allow": allow}
    return f'<a href="/open/authorize/decision?{escape(urlencode(asked))}">{label}</a>'


def _page(content: str) -> Reply:
    return Reply(_PAGE.format(content=content).encode(), content_type="text/html")
