"""Truth, statistics and switches under /_sim/: what the real platform would never offer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from sync.simulator.fault_registry import FAULTS
from sync.simulator.notices import Notice, consent_ends, consent_withdrawn
from sync.simulator.notifier import Counts
from sync.simulator.product_calls import encode_inventory
from sync.simulator.shops import Shop
from sync.simulator.simulation import Simulation

_CHUNK_ROWS = 400
_DAY_S = 86_400
Handler = Callable[[dict[str, str], dict[str, Any]], Awaitable[object] | object]


class _WrongError(ValueError):
    """The control request cannot be done as asked."""


class Control:
    """Handles /_sim/ requests; unsigned, for whoever runs the simulator."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "truth"): lambda query, body: self._summary(),
            ("GET", "stats"): lambda query, body: self._stats(),
            ("POST", "stats/reset"): self._reset_stats,
            ("POST", "mutate"): self._mutate,
            ("GET", "faults"): lambda query, body: self._list_faults(),
            ("POST", "faults"): lambda query, body: simulation.faults.add(body).summary(),
            ("DELETE", "faults"): self._remove_faults,
            ("POST", "notify"): self._notify,
            ("POST", "authorize"): self._authorize,
            ("POST", "tokens/expire"): lambda query, body: {
                "expired": simulation.accounts.expire_access_tokens()
            },
            ("GET", "settings"): lambda query, body: simulation.options,
            ("POST", "settings"): self._change_settings,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one control request: JSON, or 400 and 404 with {"error": ...}."""
        query = dict(request.rel_url.query)
        name = request.path.removeprefix("/_sim/").strip("/")
        if name == "truth" and request.method == "GET" and "stream" in query:
            return await self._send_records(request, query)
        try:
            raw = await request.read()
            body = msgspec.json.decode(raw) if raw else {}
            if not isinstance(body, dict):
                raise _WrongError("the body must be a JSON object")
            handler = self._routes.get((request.method, name)) or self._find_item(request.method, name)
            made = handler(query, body)
            return _json(await made if isinstance(made, Awaitable) else made)
        except (ValueError, msgspec.DecodeError) as wrong:
            return _json({"error": str(wrong)}, 400)
        except KeyError as missing:
            return _json({"error": f"not found: {missing.args[0]}"}, 404)

    def _find_item(self, method: str, name: str) -> Handler:
        parts = name.split("/")
        if method == "POST" and len(parts) == 3:
            kind, item, verb = parts
            if kind == "sellers" and verb in ("revoke", "scopes"):
                return lambda query, body: self._change_seller(item, verb, body=body)
            if kind == "shops" and verb in ("activate", "deactivate", "cipher"):
                return lambda query, body: self._change_shop(item, verb)
        raise KeyError(f"{method} /_sim/{name}")

    def _summary(self) -> dict[str, Any]:
        simulation = self._simulation
        options = simulation.options
        sellers = [
            {"name": consent.seller.name, "open_id": consent.seller.open_id, "region": consent.seller.region,
             "codes": list(consent.codes)}
            for consent in simulation.accounts.consents.values()
        ]  # fmt: skip
        return {
            "app": {"key": options.app_key, "secret": options.app_secret, "service_id": options.service_id},
            "sellers": sellers,
            "shops": [_count_shop(shop) for shop in simulation.world.shops.values()],
        }

    def _stats(self) -> dict[str, Any]:
        simulation = self._simulation
        mutations = {"per_second": simulation.mutator.per_second, "done": dict(simulation.mutations.counts)}
        notifications = simulation.notifier.summary()
        return simulation.meter.summary() | {"mutations": mutations, "notifications": notifications}

    def _reset_stats(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        self._simulation.meter.reset()
        self._simulation.notifier.counts = Counts()
        return {"reset": True}

    async def _mutate(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        count, per_second = body.get("count", 0), body.get("per_second")
        if not isinstance(count, int) or count < 0:
            raise _WrongError("count must be a whole number")
        if per_second is not None:
            if not isinstance(per_second, (int, float)) or per_second < 0:
                raise _WrongError("per_second must be a number from 0 on")
            await self._simulation.mutator.set_rate(float(per_second))
        if "kind" in body:
            return self._mutate_as_named(body)
        for _ in range(count):
            self._simulation.mutations.mutate()
        return {"done": count, "per_second": self._simulation.mutator.per_second}

    def _mutate_as_named(self, body: dict[str, Any]) -> dict[str, Any]:
        """``count`` changes of one kind, 1 if not said, in the shop or in the first one."""
        simulation = self._simulation
        shop = simulation.world.shops[str(body.get("shop_id") or next(iter(simulation.world.shops)))]
        made = (simulation.mutations.make(str(body["kind"]), shop) for _ in range(body.get("count", 1)))
        ids = [one for one in made if one]
        return {"done": len(ids), "shop_id": shop.shop_id, "ids": ids}

    def _notify(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        """One notification as asked, even one about an unknown shop, or of a type that there is not."""
        kind, shop_id = body.get("type"), str(body.get("shop_id", ""))
        told, timestamp = body.get("data"), body.get("timestamp")
        if not isinstance(kind, int) or isinstance(kind, bool):
            raise _WrongError("type must be the number of a topic")
        if told is None and kind == 6:
            told = consent_withdrawn(shop_id).data
        if told is None and kind == 7:
            now = self._simulation.clock()
            told = consent_ends(shop_id, ends_at=int(now) + 30 * _DAY_S, now=now).data
        if not isinstance(told, dict) or not isinstance(timestamp, int | None):
            raise _WrongError("data must be a JSON object, and timestamp unix seconds")
        sent = self._simulation.notifier.send(shop_id, Notice(kind, told), timestamp=timestamp)
        return {"tts_notification_id": sent}

    def _list_faults(self) -> dict[str, Any]:
        known = [
            {"name": fault.name, "description": fault.description, "params": fault.defaults}
            for fault in sorted(FAULTS.values(), key=lambda fault: fault.name)
        ]
        return {"faults": known, "active": [rule.summary() for rule in self._simulation.faults.rules]}

    def _remove_faults(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        which = query.get("fault") or query.get("id") or body.get("fault") or body.get("id")
        return {"removed": self._simulation.faults.remove(None if which is None else str(which))}

    def _authorize(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        limits = {name: body.get(name) for name in ("scopes", "shops")}
        for name, limit in limits.items():
            if limit is not None and not _is_texts(limit):
                raise _WrongError(f"{name} must be a list of texts")
        accounts = self._simulation.accounts
        return {
            "code": accounts.issue_code(
                str(body.get("seller")), scopes=limits["scopes"], shop_ids=limits["shops"]
            )
        }

    def _change_settings(self, query: dict[str, str], body: dict[str, Any]) -> object:
        self._simulation.options = self._simulation.options.changed(body)
        return self._simulation.options

    def _change_seller(self, open_id: str, verb: str, *, body: dict[str, Any]) -> dict[str, Any]:
        consent = self._simulation.accounts.consents[open_id]
        if verb == "revoke":
            self._simulation.revoke(open_id)
        else:
            granted = body.get("granted")
            if not isinstance(granted, list) or not _is_texts(granted):
                raise _WrongError("granted must be a list of scopes")
            consent.scopes = frozenset(granted)
        return {"open_id": open_id, "is_given": consent.is_given, "scopes": sorted(consent.scopes)}

    def _change_shop(self, shop_id: str, verb: str) -> dict[str, Any]:
        world = self._simulation.world
        shop = world.shops[shop_id]
        if verb == "cipher":
            del world.shop_by_cipher[shop.cipher]
            shop.cipher = world.ids.opaque("GCP_", 26)
            world.shop_by_cipher[shop.cipher] = shop
        else:
            shop.is_active = verb == "activate"
        return {"shop_id": shop_id, "is_active": shop.is_active}

    async def _send_records(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        shop = self._simulation.world.shops.get(query.get("shop_id", ""))
        bodies = _records_of(shop, query["stream"]) if shop else None
        if bodies is None:
            return _json({"error": "truth needs a known shop_id and stream"}, 404)
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        async for chunk in _join(bodies):
            await response.write(chunk)
        await response.write_eof()
        return response


def _records_of(shop: Shop, stream: str) -> Iterator[bytes] | None:
    """The newest records of a shop, taken at one moment; the products include the deleted ones."""
    if stream == "orders":
        return iter(list(shop.orders.bodies()))
    if stream == "products":
        return iter(list(shop.product_rows.bodies()))
    if stream == "inventory":
        return iter([encode_inventory(one) for one in shop.products.values() if one.status != "DELETED"])
    if stream == "warehouses":
        return iter([warehouse.body for warehouse in shop.warehouses])
    return None


async def _join(bodies: Iterable[bytes]) -> AsyncIterator[bytes]:
    rest = iter(bodies)
    lead = b'{"records":['
    while part := list(islice(rest, _CHUNK_ROWS)):
        yield lead + b",".join(part)
        lead = b","
    yield (b"" if lead == b"," else lead) + b"]}"


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _count_shop(shop: Shop) -> dict[str, Any]:
    live = [product for product in shop.products.values() if product.status != "DELETED"]
    return {
        "shop_id": shop.shop_id,
        "name": shop.name,
        "region": shop.market.region,
        "currency": shop.market.currency,
        "seller": shop.seller.name,
        "open_id": shop.seller.open_id,
        "is_active": shop.is_active,
        "orders": len(shop.orders.newest),
        "products": len(shop.products),
        "deleted_products": len(shop.products) - len(live),
        "skus": sum(len(product.skus) for product in live),
        "inventory": sum(len(sku.stock) for product in live for sku in product.skus),
        "warehouses": len(shop.warehouses),
    }


def _json(made: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(made), status=status, content_type="application/json")
