"""How the simulator behaves where the platform's documents leave room, or where a test wants a choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
_FIXED = frozenset({"app_key", "app_secret", "service_id", "seed"})


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """Everything that can be chosen; all but the app's identity and the seed can be changed while it runs.

    ``limit_per_s`` 0 switches the limit off. ``retry_after_s`` None sends no Retry-After with a 429.
    ``refresh_latency_s`` is how late a refresh is answered after its new pair took effect.
    ``silent_edits`` is how many of about a hundred mutations change an order without moving its
    update_time; ``silent_edits_notify`` whether they are told. ``notify_url`` is the app's own address
    for notifications, "" for none; ``notify_loss`` and ``notify_duplicates`` are shares,
    ``notify_disorder_s`` the longest random delay, ``notify_retry_scale`` 1.0 retries after 2 min,
    30 min, 3 h and 12 h.
    """

    app_key: str = "6f5e4d3c2b1a0"
    app_secret: str = "9d8c7b6a5f4e3d2c1b0a99887766554433221100"
    service_id: str = "7412345678901234567"
    redirect_url: str = "http://127.0.0.1:8080/oauth/callback"
    seed: int = 1
    limit_per_s: int = 50
    retry_after_s: int | None = None
    latency_s: float = 0.0
    jitter_s: float = 0.0
    visibility_lag_s: float = 0.0
    access_token_life_s: int = 7 * 86_400
    refresh_token_life_s: int = 365 * 86_400
    auth_code_life_s: int = 1_800
    old_refresh_dies: bool = True
    old_access_dies: bool = False
    paging: Literal["offset", "keyset", "snapshot"] = "offset"
    page_token_life_s: float | None = None
    bad_page_token: Literal["refuse", "empty", "first", "endpoint_code"] = "refuse"
    page_size_mode: Literal["refuse", "clamp"] = "refuse"
    product_cap: int = 10_000
    all_includes_deleted: bool = False
    expired_token_status: Literal[200, 401] = 401
    limited_status: Literal[200, 429] = 429
    revoked_code: Literal[36009004, 101000, 105002] = 36009004
    unknown_cipher_code: Literal[36009004, 101000] = 101000
    unknown_detail_ids: Literal["leave_out", "refuse"] = "leave_out"
    refresh_latency_s: float = 0.0
    silent_edits: Annotated[int, msgspec.Meta(ge=0)] = 0
    silent_edits_notify: bool = True
    notify_url: str = ""
    notify_loss: Share = 0.0
    notify_duplicates: Share = 0.0
    notify_disorder_s: Seconds = 0.0
    notify_timeout_s: Seconds = 3.0
    notify_retry_scale: Seconds = 1.0

    def changed(self, changes: dict[str, object]) -> SimulatorOptions:
        """These options with some values replaced.

        Raises ValueError for a name that is unknown or fixed, and for a value of the wrong kind.
        """
        unknown = [name for name in changes if name not in self.__slots__ or name in _FIXED]
        if unknown:
            raise ValueError(f"no such setting, or fixed for this run: {', '.join(sorted(unknown))}")
        try:
            return msgspec.convert(asdict(self) | changes, SimulatorOptions)
        except msgspec.ValidationError as wrong:
            raise ValueError(str(wrong)) from wrong
