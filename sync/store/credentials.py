"""Tokens at rest: AES-256-GCM, bound to whom they belong to."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync.errors import SettingsError

_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


KEY_MISSING = (
    "SHOPSYNC_ENCRYPTION_KEY must be set, since tokens are kept in a database of yours. Make one with: "
    "python3 -c 'import base64,os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
)


class Vault:
    """Encrypts with the first key and decrypts with whichever key a ciphertext names."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._newest = _key_id(keys[0]) if keys else None

    def seal(self, secret: str, *, bound_to: str) -> bytes:
        """The ciphertext; opens only with the same ``bound_to``, so it cannot be moved to another row."""
        if self._newest is None:
            raise SettingsError(KEY_MISSING)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, secret.encode(), bound_to.encode())
        return self._newest + nonce + sealed

    def open(self, sealed: bytes, *, bound_to: str) -> str:
        """The secret. Raises SettingsError when its key is missing or it belongs elsewhere."""
        key_id, rest = sealed[:_KEY_ID_BYTES], sealed[_KEY_ID_BYTES:]
        cipher = self._ciphers.get(key_id)
        if not self._ciphers:
            raise SettingsError(KEY_MISSING)
        if cipher is None:
            raise SettingsError(
                f"the stored tokens are encrypted with key {key_id.hex()}, which SHOPSYNC_ENCRYPTION_KEY "
                "does not hold: add that key behind the newest one, or connect the shops again"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], bound_to.encode()).decode()
        except (InvalidTag, ValueError):  # ValueError: too short to be one.
            raise SettingsError(
                "a stored token does not open with its key: the row was altered or moved; "
                "connect the shop again"
            ) from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"shopsync key id" + key).digest()[:_KEY_ID_BYTES]


def load_or_make_key(path: Path) -> bytes:
    """The key in the file, made and written there with mode 0600 when there is none yet.

    Raises SettingsError when something else is there: a new key would not open what the old one sealed.
    """
    try:
        key = base64.urlsafe_b64decode(path.read_text().strip())
    except FileNotFoundError:
        return _make_key(path)
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"the key file {path} is damaged: restore it from a backup; or remove it, and connect the "
            "shops again"
        )
    return key


def _make_key(path: Path) -> bytes:
    key = os.urandom(_KEY_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and linked: two processes that start at once agree on one key, whole.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.urlsafe_b64encode(key).decode() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        return load_or_make_key(path)
    finally:
        draft.unlink()
    return key
