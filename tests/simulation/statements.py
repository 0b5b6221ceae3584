"""Which stand-in belongs to which named statement."""

from __future__ import annotations

from tests.simulation.books import Books
from tests.simulation.notes import Notes
from tests.simulation.postgres import Statement
from tests.simulation.tables import Tables


def statements(books: Books, notes: Notes, tables: Tables) -> dict[str, Statement]:
    """Each statement that the daemon runs, by its name."""
    found: dict[str, Statement] = {}
    for part in (books, notes, tables):
        for name in dir(part):
            if not name.startswith("_") and callable(value := getattr(part, name)):
                found[name] = value
    for name in ("show_run", "end_run", "note_shop_state", "note_aside", "forgive_rejects", "record_reject"):
        found[name] = books.note_nothing
    for name in ("has_rejects", "rejected_ids", "count_rejects", "forget_notifications"):
        found[name] = books.count_nothing
    for table in ("orders", "products"):
        found[f"known_{table}"] = tables.known(table)
    return found
