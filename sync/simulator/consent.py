"""The seller's side of an authorization: who answers, what is allowed, and the way back to the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from sync.simulator.consent_pages import ask_seller, choose_seller, no_shop_chosen, no_such_service
from sync.simulator.replies import Reply
from sync.simulator.simulation import Simulation


def show_consent(query: Mapping[str, str], simulation: Simulation) -> Reply:
    """The page where a seller is chosen, and then the one where the app is allowed or refused.

    Any other service id does not exist.
    """
    consents = simulation.accounts.consents
    if query.get("service_id") != simulation.options.service_id:
        return _page(no_such_service())
    asked = {name: query[name] for name in ("service_id", "state", "seller") if name in query}
    consent = consents.get(query.get("seller", ""))
    if consent is None:
        asked.pop("seller", None)
        return _page(choose_seller(asked, consents, world=simulation.world))
    shops = simulation.world.shops_of(consent.seller.open_id)
    return _page(ask_seller(asked, consent, shops=shops))


def decide(query: Mapping[str, str], simulation: Simulation, *, shop_ids: Sequence[str] = ()) -> Reply:
    """The redirect to the app's own URL, with a code or the refusal; a state is sent back.

    ``shop_ids`` are the chosen shops; none chosen are all, unless the page let the seller choose.
    """
    consent = simulation.accounts.consents.get(query.get("seller", ""))
    if query.get("service_id") != simulation.options.service_id or consent is None:
        return _page(no_such_service())
    if query.get("allow") == "1":
        if query.get("chosen") and not shop_ids:
            return _page(no_shop_chosen())
        own = [shop.shop_id for shop in simulation.world.shops_of(consent.seller.open_id)]
        is_all = not shop_ids or set(shop_ids) >= set(own)
        answer = {
            "app_key": simulation.options.app_key,
            "code": simulation.accounts.issue_code(
                consent.seller.open_id, shop_ids=None if is_all else shop_ids
            ),
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


def _page(content: bytes) -> Reply:
    return Reply(content, content_type="text/html")
