"""What a shop's sync works with, whatever it does."""

from __future__ import annotations

from dataclasses import dataclass

from sync.settings import Settings
from sync.store.cursors import Cursors
from sync.store.hints import Hints
from sync.store.pool import Database
from sync.store.proofs import Proofs
from sync.store.runs import Runs
from sync.store.shops import Shops
from sync.store.sink import Sink


@dataclass(frozen=True, slots=True)
class Tools:
    """Shared by all shops of the process."""

    settings: Settings
    database: Database
    sink: Sink
    cursors: Cursors
    hints: Hints
    proofs: Proofs
    runs: Runs
    shops: Shops
