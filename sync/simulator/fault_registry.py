"""The list of named faults: each is a small function that registers itself with its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from aiohttp import web

from sync.simulator.calls import Call
from sync.simulator.replies import Reply
from sync.simulator.searches import Page

Params = dict[str, Any]
Kind = Literal["answer", "page", "record", "reply", "wire", "size", "clock"]
Answer = Callable[[Call, Params], Reply]
PageChange = Callable[[Page, Params], None]
ReplyChange = Callable[[Reply, Params], Reply]
Mark = Callable[[], None]
Send = Callable[[web.BaseRequest, Reply], Awaitable[web.StreamResponse]]
Function = TypeVar("Function", bound=Callable[..., object])


class RecordChange(Protocol):
    """Makes another record of one; ``key`` is the name of the list it is in."""

    def __call__(self, row: bytes, *, key: str, params: Params) -> bytes: ...


class Wire(Protocol):
    """Sends a reply in its own way; ``send`` is the ordinary one."""

    async def __call__(
        self, request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
    ) -> web.StreamResponse: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of misbehaviour; ``defaults`` names its parameters, and an empty text means "not set"."""

    name: str
    kind: Kind
    description: str
    defaults: Params

    def read_params(self, given: Params) -> Params:
        """The parameters with defaults filled in. Raises ValueError for an unknown or ill-typed one."""
        unknown = sorted(set(given) - set(self.defaults))
        if unknown:
            raise ValueError(f"{self.name} knows no parameter {', '.join(unknown)}")
        for name, value in given.items():
            default = self.defaults[name]
            fits = (
                isinstance(value, (int, float))
                if isinstance(default, (int, float))
                else isinstance(value, str)
            )
            if default is not None and (not fits or isinstance(value, bool)):
                raise ValueError(f"{self.name}: {name} must be like {default!r}")
        return self.defaults | given


FAULTS: dict[str, Fault] = {}
ANSWERS: dict[str, Answer] = {}
PAGE_CHANGES: dict[str, PageChange] = {}
RECORD_CHANGES: dict[str, RecordChange] = {}
REPLY_CHANGES: dict[str, ReplyChange] = {}
WIRES: dict[str, Wire] = {}
_MARKS: dict[str, Mark] = {}


def answer_fault(**defaults: object) -> Callable[[Answer], Answer]:
    """The function is a named fault that answers in place of the API."""
    return _register("answer", ANSWERS, defaults=defaults)


def page_fault(**defaults: object) -> Callable[[PageChange], PageChange]:
    """The function is a named fault that changes a page in place."""
    return _register("page", PAGE_CHANGES, defaults=defaults)


def record_fault(**defaults: object) -> Callable[[RecordChange], RecordChange]:
    """The function is a named fault that spoils one record."""
    return _register("record", RECORD_CHANGES, defaults=defaults)


def reply_fault(**defaults: object) -> Callable[[ReplyChange], ReplyChange]:
    """The function is a named fault that changes a whole reply."""
    return _register("reply", REPLY_CHANGES, defaults=defaults)


def wire_fault(**defaults: object) -> Callable[[Wire], Wire]:
    """The function is a named fault that sends the reply in its own way."""
    return _register("wire", WIRES, defaults=defaults)


def mark_fault(kind: Literal["size", "clock"], **defaults: object) -> Callable[[Mark], Mark]:
    """The function only describes a named fault, which the server itself looks for."""
    return _register(kind, _MARKS, defaults=defaults)


def _register(kind: Kind, table: dict[str, Function], *, defaults: Params) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        name, text = function.__name__, function.__doc__ or ""
        FAULTS[name] = Fault(name, kind, text.strip().splitlines()[0], defaults)
        table[name] = function
        return function

    return register
