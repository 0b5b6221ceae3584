"""The pages that a seller sees on the way to a consent, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

from sync.simulator.accounts import Consent
from sync.simulator.shops import Shop
from sync.simulator.world import World

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · simulated TikTok Shop</title>
<style>
:root{{color-scheme:light dark;--line:light-dark(#ddd,#444);--quiet:light-dark(#666,#aaa)}}
body{{font:16px/1.5 system-ui;margin:0;background:light-dark(#f5f5f5,#121212);color:light-dark(#161823,#eee)}}
header{{background:#161823;color:#fff;padding:.8rem 1.2rem}} header small{{opacity:.7;margin-left:.6rem}}
main{{max-width:30rem;margin:2rem auto;padding:1.2rem 1.6rem;background:light-dark(#fff,#1e1e1e);
border:1px solid var(--line);border-radius:12px}}
h1{{font-size:1.35rem;margin:.2rem 0 .8rem}} h2{{font-size:1rem;margin:1.4rem 0 .3rem}}
ul{{list-style:none;padding:0;margin:.4rem 0}} li{{padding:.45rem 0;border-top:1px solid var(--line)}}
small,.quiet{{color:var(--quiet)}} header small{{color:inherit}}
a.seller{{display:block;color:inherit;text-decoration:none;padding:.3rem 0}}
button{{font:inherit;padding:.55rem 1.6rem;border-radius:8px;border:1px solid var(--line);cursor:pointer}}
button.allow{{background:#fe2c55;border-color:#fe2c55;color:#fff;margin-right:.6rem}}
footer{{margin-top:1.4rem;font-size:.85rem}}
</style></head>
<body><header>Seller Center<small>simulated TikTok Shop</small></header><main>{content}</main></body></html>
"""
_SCOPE_WORDS = {
    "seller.authorization.info": "See which shops you have authorized",
    "seller.order.info": "Read your orders",
    "seller.product.basic": "Read your products and their stock",
    "seller.logistics": "Read your warehouses",
    "seller.return_refund.basic": "Read returns, refunds and cancellations",
    "seller.finance.info": "Read statements and payments",
    "seller.fulfillment.basic": "Read packages",
}


def no_such_service() -> bytes:
    """What a wrong service id shows."""
    return _page("Not found", "<h1>This service does not exist</h1><p>Check the link you were given.</p>")


def no_shop_chosen() -> bytes:
    """What a consent for no shop at all shows."""
    return _page(
        "Choose a shop", "<h1>Choose at least one shop</h1><p>Go back and choose the shops to share.</p>"
    )


def choose_seller(asked: Mapping[str, str], consents: Mapping[str, Consent], *, world: World) -> bytes:
    """The first page, in place of a login: which seller is it that answers?"""
    items = []
    for open_id, consent in consents.items():
        link = f"/open/authorize?{escape(urlencode({**asked, 'seller': open_id}))}"
        shops = ", ".join(escape(shop.name) for shop in world.shops_of(open_id))
        items.append(
            f'<li><a class="seller" href="{link}"><b>{escape(consent.seller.name)}</b> '
            f"({escape(consent.seller.region)})<br><small>{shops}</small></a></li>"
        )
    return _page(
        "Sign in",
        "<h1>Sign in to Seller Center</h1><p>Nobody needs a password here: choose who you are.</p>"
        f"<ul>{''.join(items)}</ul>",
    )


def ask_seller(asked: Mapping[str, str], consent: Consent, *, shops: list[Shop]) -> bytes:
    """The second page: what the app wants to see, of which shops, with the buttons Allow and Refuse.

    A seller of several shops may leave some out.
    """
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in {**asked, "chosen": "1"}.items()
    )
    listed = "".join(_shop(shop, is_alone=len(shops) == 1) for shop in shops)
    scopes = "".join(f"<li>{escape(_SCOPE_WORDS.get(one, one))}</li>" for one in sorted(consent.scopes))
    again = {
        "service_id": asked["service_id"],
        "seller": asked["seller"],
        "allow": "1",
        "from": "seller_center",
    }
    return _page(
        "Authorize an app",
        f"<h1>Allow this app to read your {'shop' if len(shops) == 1 else 'shops'}?</h1>"
        f'<p>Signed in as <b>{escape(consent.seller.name)}</b>.<br><span class="quiet">App service '
        f"{escape(asked['service_id'])}</span></p>"
        f'<form action="/open/authorize/decision">{hidden}<h2>Shops</h2><ul>{listed}</ul>'
        f"<h2>It will be able to</h2><ul>{scopes}</ul>"
        '<p><button class="allow" name="allow" value="1">Allow</button>'
        '<button name="allow" value="0">Refuse</button></p></form>'
        f'<footer><a href="/open/authorize/decision?{escape(urlencode(again))}">Re-authorize from Seller '
        'Center</a> <span class="quiet">(comes back to the app without a state)</span></footer>',
    )


def _shop(shop: Shop, *, is_alone: bool) -> str:
    name = f"{escape(shop.name)} <small>{escape(shop.market.region)} · {escape(shop.code)}</small>"
    if is_alone:
        return f'<li><input type="hidden" name="shop" value="{shop.shop_id}">{name}</li>'
    return (
        f'<li><label><input type="checkbox" name="shop" value="{shop.shop_id}" checked> {name}</label></li>'
    )


def _page(title: str, content: str) -> bytes:
    return _PAGE.format(title=title, content=content).encode()
