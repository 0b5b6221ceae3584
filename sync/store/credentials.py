"""Tokens at rest: AES-256-GCM, bound to whom they belong to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync.errors import SettingsError
from sync.model import Tokens

_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


KEY_MISSING = (
    "SHOPSYNC_ENCRYPTION_KEY must be set, since tokens are kept in a database of yours. Make one with: "
    "python3 -c 'import base64,os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
)


class Vault:
    """Encrypts with the first key and decrypts with whichever key a ciphertext names.

    ``reread`` is for keys that another process may rotate meanwhile: they are read again before
    anything is sealed, and when a ciphertext names an unknown one.
    """

    def __init__(self, keys: Sequence[bytes], *, reread: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._reread = reread
        self._take(keys)

    def _take(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self._newest = key_id(keys[0]) if keys else None

    @property
    def newest(self) -> bytes:
        """The id of the key that is sealed with. Raises SettingsError when there is none."""
        if self._reread is not None:
            self._take(self._reread())
        if self._newest is None:
            raise SettingsError(KEY_MISSING)
        return self._newest

    def holds(self, wanted: bytes) -> bool:
        """True when what was sealed with the key of that id can be opened."""
        if wanted not in self._ciphers and self._reread is not None:
            self._take(self._reread())
        return wanted in self._ciphers

    def seal(self, secret: str, *, bound_to: str) -> bytes:
        """The ciphertext; opens only with the same ``bound_to``, so it cannot be moved to another row."""
        newest = self.newest
        nonce = os.urandom(_NONCE_BYTES)
        return newest + nonce + self._ciphers[newest].encrypt(nonce, secret.encode(), bound_to.encode())

    def seal_pair(self, tokens: Tokens, *, app: str, open_id: str) -> tuple[bytes, bytes]:
        """The access and the refresh token, sealed for the row of that app and seller."""
        return (
            self.seal(tokens.access_token, bound_to=f"{app}|{open_id}|access"),
            self.seal(tokens.refresh_token, bound_to=f"{app}|{open_id}|refresh"),
        )

    def open(self, sealed: bytes, *, bound_to: str) -> str:
        """The secret. Raises SettingsError when its key is missing or it belongs elsewhere."""
        sealed_with, rest = sealed[:_KEY_ID_BYTES], sealed[_KEY_ID_BYTES:]
        if not self._ciphers:
            raise SettingsError(KEY_MISSING)
        if not self.holds(sealed_with):
            raise SettingsError(
                f"the stored tokens are encrypted with key {sealed_with.hex()}, which "
                "SHOPSYNC_ENCRYPTION_KEY does not hold: add that key behind the newest one, or connect the "
                "shops again"
            )
        nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            return self._ciphers[sealed_with].decrypt(nonce, ciphertext, bound_to.encode()).decode()
        except (InvalidTag, ValueError):  # ValueError: too short to be one.
            raise SettingsError(
                "a stored token does not open with its key: the row was altered or moved; "
                "connect the shop again"
            ) from None


def key_id(key: bytes) -> bytes:
    """What a ciphertext names its key by; it tells nothing of the key."""
    return hashlib.sha256(b"shopsync key id" + key).digest()[:_KEY_ID_BYTES]
