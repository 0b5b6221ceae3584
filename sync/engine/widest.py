"""Which of several errors decides, when streams fail side by side."""

from __future__ import annotations

from collections.abc import Iterator

from sync.errors import (
    AppError,
    DatabaseError,
    DatabaseGoneError,
    FencedOutError,
    SettingsError,
    ShopError,
    SyncError,
)

_WIDEST_FIRST = (FencedOutError, DatabaseGoneError, DatabaseError, AppError, SettingsError, ShopError)


def widest(group: BaseExceptionGroup[SyncError]) -> SyncError:
    """The error of the group with the widest scope."""
    errors = list(_flatten(group))
    for kind in _WIDEST_FIRST:
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _flatten(group: BaseExceptionGroup[SyncError]) -> Iterator[SyncError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flatten(error)
        else:
            yield error
