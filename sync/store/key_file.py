"""The key of an embedded database: a file of our own, which several processes may read and one rotates."""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sync.errors import SettingsError

_KEY_BYTES = 32


def load_or_make_keys(path: Path) -> list[bytes]:
    """The keys in the file, newest first; one is made, with mode 0600, when there is no file yet.

    Raises SettingsError when something else is there: a new key would not open what the old one sealed.
    """
    try:
        keys = [base64.urlsafe_b64decode(line) for line in path.read_text().split()]
    except FileNotFoundError:
        return _make_file(path)
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        keys = []
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise SettingsError(
            f"the key file {path} is damaged: restore it from a backup; or remove it, and connect the "
            "shops again"
        )
    return keys


def add_key(path: Path) -> list[bytes]:
    """The file begins with a new key, and the one before stays. A rotation that was begun is gone on with."""
    keys = load_or_make_keys(path)
    if len(keys) == 1:
        keys = [os.urandom(_KEY_BYTES), *keys]
        _write(path, keys)
    return keys


def keep_newest(path: Path) -> None:
    """Only the newest key is left in the file."""
    _write(path, load_or_make_keys(path)[:1])


@contextmanager
def rotating(path: Path) -> Iterator[None]:
    """No other process rotates the file meanwhile. Raises SettingsError when one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another process rotates the key in {path}: let it end first") from None
        yield


def _make_file(path: Path) -> list[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = os.urandom(_KEY_BYTES)
    # Written aside and linked: two processes that start at once agree on one key, whole.
    draft = _draft(path, [key])
    try:
        os.link(draft, path)
    except FileExistsError:
        return load_or_make_keys(path)
    finally:
        draft.unlink()
    return [key]


def _write(path: Path, keys: Sequence[bytes]) -> None:
    os.replace(_draft(path, keys), path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Tokens are sealed with the new key next: the name must not be lost before them.
    finally:
        os.close(folder)


def _draft(path: Path, keys: Sequence[bytes]) -> Path:
    """The keys in a file beside it, on the disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(base64.urlsafe_b64encode(key).decode() + "\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return draft
