"""One API request while it is being answered, and readers for its parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from sync.simulator.accounts import Session
from sync.simulator.replies import RefusedError, invalid
from sync.simulator.shops import Shop

Body = TypeVar("Body", bound=msgspec.Struct)
_FIELD = re.compile(r"`\$\.([A-Za-z_]+)")


@dataclass(slots=True)
class Call:
    """A request with what the checks have found out about it; ``now`` is the server's own clock."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    token: str
    content_type: str
    now: float
    request_id: str
    shop: Shop | None = None
    session: Session | None = None
    over_limit: bool = False
    path_id: str = ""
    page_size_override: int | None = None
    sellers_shops: list[Shop] = field(default_factory=list)

    @property
    def of_shop(self) -> Shop:
        """The shop of a call whose cipher was checked."""
        assert self.shop is not None
        return self.shop

    def page_size(self, *, refusal: RefusedError, clamp: bool) -> int:
        """The asked page size of 1 to 100. Raises ``refusal`` for any other, unless it is to be clamped."""
        text = self.query.get("page_size", "")
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise refusal
        size = int(text)
        if not 1 <= size <= 100:
            if not clamp:
                raise refusal
            size = min(max(size, 1), 100)
        return self.page_size_override or size

    def choice(self, name: str, default: str, *, allowed: tuple[str, ...]) -> str:
        """A query parameter that must be one of ``allowed``."""
        value = self.query.get(name, default)
        if value not in allowed:
            raise invalid(name, f"must be one of {', '.join(allowed)}")
        return value

    def read_body(self, model: type[Body], refusals: dict[str, RefusedError] | None = None) -> Body:
        """The JSON body as ``model``; an absent body is an empty object, unknown fields are ignored.

        Raises the refusal named for a field that is wrong, the one under "" for any other, and else
        36009004 with the field's name.
        """
        raw = self.body or b"{}"
        try:
            if not isinstance(msgspec.json.decode(raw), dict):
                raise RefusedError(36009022)
            return msgspec.json.decode(raw, type=model)
        except msgspec.ValidationError as wrong:
            found = _FIELD.search(str(wrong))
            name = found[1] if found else "body"
            known = refusals or {}
            raise (known.get(name) or known.get("") or invalid(name, str(wrong))) from wrong
        except (msgspec.DecodeError, RecursionError) as broken:
            raise RefusedError(36009022) from broken


def canonical(model: msgspec.Struct) -> str:
    """The filters in one spelling, to bind a page token to them."""
    return msgspec.json.encode(model, order="sorted").decode()
