"""The list of named faults: each is a small function that registers itself with its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from aiohttp import web

from sync.simulator.calls import Call
from sync.simulator.replies import Reply
from sync.simulator.searches import Page

Params = dict[str, Any]
Kind = Literal["answer", "page", "record", "reply", "wire", "size", "clock"]
Answer = Callable[[Call, Params], Reply]
PageChange = Callable[[Page, Params], None]
RecordChange = Callable[[bytes, str, Params], bytes]
ReplyChange = Callable[[Reply, Params], Reply]
Send = Callable[[web.BaseRequest, Reply], Awaitable[web.StreamResponse]]
Wire = Callable[[web.BaseRequest, Reply, Params, Send], Awaitable[web.StreamResponse]]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of misbehaviour; ``defaults`` names its parameters, and an empty text means "not set"."""

    name: str
    kind: Kind
    description: str
    defaults: Params
    function: Callable[..., Any]

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


def fault(kind: Kind, **defaults: Any) -> Callable[[Function], Function]:
    """The function is a named fault; its docstring's first line describes it to people."""

    def register(function: Function) -> Function:
        description = (function.__doc__ or "").strip().splitlines()[0]
        FAULTS[function.__name__] = Fault(function.__name__, kind, description, defaults, function)
        return function

    return register
