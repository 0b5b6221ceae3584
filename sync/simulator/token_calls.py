"""The token calls: a code or a refresh token for a fresh pair."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sync.simulator.replies import RefusedError, Reply, frame, refuse
from sync.simulator.simulation import Simulation


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
