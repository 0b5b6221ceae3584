"""The faults that are switched on, and when each of them strikes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Imported for their registrations.
from sync.simulator import fault_answers, fault_pages, fault_wires
from sync.simulator.calls import Call
from sync.simulator.fault_pages import find_record
from sync.simulator.fault_registry import (
    ANSWERS,
    FAULTS,
    PAGE_CHANGES,
    RECORD_CHANGES,
    REPLY_CHANGES,
    Fault,
    Kind,
    Params,
)
from sync.simulator.replies import Reply
from sync.simulator.searches import Page

TOKEN_PREFIX = "/api/v2/token/"
REFRESH_PATH = f"{TOKEN_PREFIX}refresh"
_SELECTORS = ("path", "shop_id", "every", "probability", "times", "after")
_REGISTRATIONS = (fault_answers, fault_pages, fault_wires)


@dataclass(slots=True)
class Rule:
    """One fault switched on: where it applies, how often, and how often it has struck."""

    number: int
    fault: Fault
    params: Params
    path: str | None = None
    shop_id: str | None = None
    every: int = 1
    probability: float = 1.0
    times: int | None = None
    after: int = 0
    met: int = 0
    struck: int = 0

    def fits(self, call: Call) -> bool:
        """Whether the request is one that this rule speaks of; the token calls only when named by path.

        ``token_cut`` is for refreshes and nothing else.
        """
        if self.fault.name == "token_cut":
            return call.path == REFRESH_PATH
        if self.path is None and call.path.startswith(TOKEN_PREFIX):
            return False
        if self.path is not None and self.path not in call.path:
            return False
        if self.shop_id is not None and (call.shop is None or call.shop.shop_id != self.shop_id):
            return False
        return self.fault.name != "lost_page_token" or bool(call.query.get("page_token"))

    def strikes(self, rng: random.Random) -> bool:
        """Whether it is this fitting request's turn; counted either way."""
        if self.times is not None and self.struck >= self.times:
            return False
        self.met += 1
        if self.met <= self.after or (self.met - self.after) % self.every:
            return False
        if rng.random() >= self.probability:
            return False
        self.struck += 1
        return True

    def summary(self) -> dict[str, Any]:
        """The rule as the control endpoint lists it."""
        selectors = {name: getattr(self, name) for name in _SELECTORS}
        return {
            "id": self.number,
            "fault": self.fault.name,
            **selectors,
            "params": self.params,
            "struck": self.struck,
        }


@dataclass(slots=True)
class Faults:
    """The rules in force, asked at each stage of a request."""

    rng: random.Random
    rules: list[Rule] = field(default_factory=list)
    _last: int = 0

    def add(self, wanted: dict[str, Any]) -> Rule:
        """The fault is on. ``wanted`` holds "fault", selectors and the fault's own parameters.

        Raises ValueError for anything unknown or impossible.
        """
        name = wanted.get("fault")
        if not isinstance(name, str) or name not in FAULTS:
            raise ValueError(f"no such fault: {name!r}; GET /_sim/faults lists them")
        selectors = {key: wanted[key] for key in _SELECTORS if wanted.get(key) is not None}
        for key in ("every", "times", "after"):
            if key in selectors and (
                not isinstance(selectors[key], int) or selectors[key] < (key == "every")
            ):
                raise ValueError(f"{key} must be a whole number")
        params = {key: value for key, value in wanted.items() if key not in (*_SELECTORS, "fault")}
        self._last += 1
        rule = Rule(self._last, FAULTS[name], FAULTS[name].read_params(params), **selectors)
        self.rules.append(rule)
        return rule

    def remove(self, name_or_number: str | None = None) -> int:
        """All rules are off, or those of this fault or number; returns how many."""
        kept = [
            rule
            for rule in self.rules
            if name_or_number is not None and name_or_number not in (rule.fault.name, str(rule.number))
        ]
        removed = len(self.rules) - len(kept)
        self.rules = kept
        return removed

    def clock_offset_s(self) -> float:
        """By how much the server's clock is off."""
        return sum(float(rule.params["seconds"]) for rule in self.rules if rule.fault.kind == "clock")

    def answer(self, call: Call) -> Reply | None:
        """What a fault answers in place of the API, None to go on. May raise RefusedError as the API does."""
        for rule in self._striking("answer", call):
            return ANSWERS[rule.fault.name](call, rule.params)
        return None

    def set_page_size(self, call: Call) -> None:
        """The call's page size is overridden if a fault says so."""
        for rule in self._striking("size", call):
            call.page_size_override = int(rule.params["size"])

    def change_page(self, call: Call, page: Page) -> None:
        """The page carries what the faults in force do to it."""
        for rule in [one for one in self.rules if one.fault.kind in ("page", "record") and one.fits(call)]:
            if rule.fault.kind == "page":
                if (page.is_paged or page.rows) and rule.strikes(self.rng):
                    PAGE_CHANGES[rule.fault.name](page, rule.params)
                continue
            place = find_record(page, str(rule.params["id"]))
            if place is not None and rule.strikes(self.rng):
                page.rows = list(page.rows)
                change = RECORD_CHANGES[rule.fault.name]
                page.rows[place] = change(page.rows[place], key=page.key, params=rule.params)

    def change_reply(self, call: Call, reply: Reply) -> Reply:
        """The reply as the faults in force leave it."""
        for rule in self._striking("reply", call):
            reply = REPLY_CHANGES[rule.fault.name](reply, rule.params)
        return reply

    def wire(self, call: Call) -> Rule | None:
        """The rule that sends this answer in its own way, if any."""
        return next(self._striking("wire", call), None)

    def _striking(self, kind: Kind, call: Call) -> Iterator[Rule]:
        for rule in self.rules:
            if rule.fault.kind == kind and rule.fits(call) and rule.strikes(self.rng):
                yield rule
