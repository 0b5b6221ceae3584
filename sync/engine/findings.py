"""What the checks of ``shopsync doctor`` find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``what`` is the case, ``todo`` what a person does about it (empty: nothing).

    A warning does not stop anything today; with a problem something does not work.
    """

    area: str
    level: Level
    what: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class ScopeCheck:
    """Whether a shop's seller granted what a stream needs; None where TikTok Shop did not say."""

    shop_id: str
    name: str
    stream: str
    scope: str
    granted: bool | None
