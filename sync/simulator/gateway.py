"""The checks every API request passes before its endpoint sees it, in the platform's order."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from sync.simulator.calls import Call
from sync.simulator.options import SimulatorOptions
from sync.simulator.order_calls import get_orders, search_orders
from sync.simulator.product_calls import get_product, list_warehouses, search_inventory, search_products
from sync.simulator.replies import RefusedError, Reply, frame
from sync.simulator.searches import Desk, Page
from sync.simulator.shop_calls import list_active_shops, list_authorized_shops
from sync.simulator.simulation import Simulation
from sync.simulator.webhook_calls import delete_webhook, list_webhooks, update_webhook
from sync.tiktok.signing import sign_request

_OLDEST_S, _AHEAD_S = 300, 30
_PATH = re.compile(r"/(\w+)/(\d{6})/([\w/]+)")
Handler = Callable[[Call, Desk], Page | bytes]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One documented call; a path that ends in /* takes an id there."""

    method: str
    path: str
    scope: str
    handler: Handler
    takes_cipher: bool = True


ENDPOINTS = (
    Endpoint(
        "GET",
        "/authorization/202309/shops",
        "seller.authorization.info",
        list_authorized_shops,
        takes_cipher=False,
    ),
    Endpoint(
        "GET", "/seller/202309/shops", "seller.authorization.info", list_active_shops, takes_cipher=False
    ),
    Endpoint("POST", "/order/202309/orders/search", "seller.order.info", search_orders),
    Endpoint("GET", "/order/202507/orders", "seller.order.info", get_orders),
    Endpoint("POST", "/product/202502/products/search", "seller.product.basic", search_products),
    Endpoint("GET", "/product/202309/products/*", "seller.product.basic", get_product),
    Endpoint("POST", "/product/202309/inventory/search", "seller.product.basic", search_inventory),
    Endpoint("GET", "/logistics/202309/warehouses", "seller.logistics", list_warehouses),
    Endpoint("PUT", "/event/202309/webhooks", "seller.authorization.info", update_webhook),
    Endpoint("GET", "/event/202309/webhooks", "seller.authorization.info", list_webhooks),
    Endpoint("DELETE", "/event/202309/webhooks", "seller.authorization.info", delete_webhook),
)
_BY_PATH: dict[str, dict[str, Endpoint]] = {}
for _one in ENDPOINTS:
    _BY_PATH.setdefault(_one.path, {})[_one.method] = _one
_RESOURCES = {(found[1], found[3]) for endpoint in ENDPOINTS if (found := _PATH.match(endpoint.path))}


def find_endpoint(method: str, path: str) -> tuple[Endpoint, str]:
    """The endpoint of a method and path, and the id in the path.

    Raises RefusedError: 36009010 for a known path with another method, 36009014 for a known resource in
    another version, 36009009 for any other path.
    """
    methods, path_id = _BY_PATH.get(path), ""
    if methods is None or path.endswith("*"):
        parent, _, path_id = path.rpartition("/")
        methods = _BY_PATH.get(f"{parent}/*") if path_id else None
    if methods is None:
        raise RefusedError(36009014 if _is_other_version(path) else 36009009)
    if method not in methods:
        raise RefusedError(36009010)
    return methods[method], path_id


def _is_other_version(path: str) -> bool:
    found = _PATH.fullmatch(path)
    if not found or path.endswith("/"):
        return False
    parent = found[3].rpartition("/")[0]
    return bool({(found[1], found[3]), (found[1], f"{parent}/")} & _RESOURCES)


def answer(call: Call, simulation: Simulation) -> Reply:
    """The reply to a request. Raises RefusedError at the first check that fails."""
    endpoint, call.path_id = find_endpoint(call.method, call.path)
    _check_app_and_time(call, simulation.options)
    _check_signature(call, simulation.options)
    _check_token(call, simulation, endpoint=endpoint)
    _check_cipher(call, simulation, endpoint=endpoint)
    if call.over_limit:
        raise _over_limit(simulation.options)
    simulation.faults.set_page_size(call)
    if call.shop is not None:
        simulation.settle(call.shop)
    made = endpoint.handler(call, Desk(simulation.options, simulation.pager, simulation.webhooks))
    before, after = frame(call.request_id)
    if isinstance(made, bytes):
        return Reply(before + made + after)
    simulation.faults.change_page(call, made)
    return Reply(made.render(before, after))


def _over_limit(options: SimulatorOptions) -> RefusedError:
    headers = {} if options.retry_after_s is None else {"Retry-After": str(options.retry_after_s)}
    return RefusedError(36009002, status=options.limited_status, headers=headers)


def _check_app_and_time(call: Call, options: SimulatorOptions) -> None:
    if call.query.get("app_key") != options.app_key:
        raise RefusedError(36009004, "Invalid credentials. The 'app_key' query parameter is invalid.")
    text = call.query.get("timestamp", "")
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise RefusedError(36009004, "Invalid 'timestamp'. It must be a unix time in seconds.")
    timestamp = int(text)
    if timestamp < 0:
        raise RefusedError(36009004, "Invalid 'timestamp'. It must not be < 0.")
    if timestamp < call.now - _OLDEST_S:
        raise RefusedError(
            36009004, "Invalid 'timestamp'. It is earlier than 5 minutes before the current time."
        )
    if timestamp > call.now + _AHEAD_S:
        raise RefusedError(
            36009004, "Invalid 'timestamp'. It must not exceed the current time by 30 seconds."
        )


def _check_signature(call: Call, options: SimulatorOptions) -> None:
    sent = call.query.get("sign")
    if not sent:
        raise RefusedError(
            36009004, "Missing credentials. The 'sign' query parameter (signature) is required."
        )
    right = sign_request(
        call.path, call.query, app_secret=options.app_secret, body=call.body,
        multipart=call.content_type.startswith("multipart/form-data"),
    )  # fmt: skip
    if not hmac.compare_digest(sent.encode(), right.encode()):
        raise RefusedError(106001)


def _check_token(call: Call, simulation: Simulation, *, endpoint: Endpoint) -> None:
    if not call.token:
        raise RefusedError(36009004, "Missing credentials. The 'x-tts-access-token' header is required.")
    call.session = simulation.accounts.session_of(call.token)
    call.sellers_shops = simulation.shops_of(call.session.seller.open_id)
    if endpoint.scope not in simulation.accounts.allowed(call.session):
        raise RefusedError(105005)


def _check_cipher(call: Call, simulation: Simulation, *, endpoint: Endpoint) -> None:
    cipher = call.query.get("shop_cipher")
    assert call.session is not None
    if not endpoint.takes_cipher:
        if cipher is not None:
            raise RefusedError(36009004, "Unexpected identifier. 'shop_cipher' is not needed by this API.")
        return
    if not cipher:
        raise RefusedError(106013)
    if call.shop is None or call.shop not in call.sellers_shops:
        code = simulation.options.unknown_cipher_code
        raise RefusedError(code, "Invalid 'shop_cipher'." if code == 36009004 else "")
    if not call.shop.is_active:
        raise RefusedError(36009043)
