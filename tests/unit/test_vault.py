"""Tokens at rest: they open with their key and in their place, and nowhere else."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import SettingsError
from sync.store.credentials import Vault
from sync.store.key_file import load_or_make_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = "default|open-1|access"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_as_it_was(secret: str) -> None:
    vault = Vault([NEW])
    sealed = vault.seal(secret, bound_to=PLACE)
    assert vault.open(sealed, bound_to=PLACE) == secret


def test_a_ciphertext_shows_neither_the_secret_nor_that_two_are_equal() -> None:
    vault = Vault([NEW])
    first, second = (vault.seal("canary", bound_to=PLACE) for _ in range(2))
    assert b"canary" not in first
    assert first != second


def test_a_wrong_key_is_named_as_the_missing_one() -> None:
    sealed = Vault([OLD]).seal("canary", bound_to=PLACE)
    with pytest.raises(SettingsError, match="SHOPSYNC_ENCRYPTION_KEY does not hold") as caught:
        Vault([NEW]).open(sealed, bound_to=PLACE)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("place", ["default|open-2|access", "us|open-1|access", "default|open-1|refresh", ""])
def test_a_token_that_was_moved_to_another_row_does_not_open(place: str) -> None:
    vault = Vault([NEW])
    with pytest.raises(SettingsError, match="altered or moved"):
        vault.open(vault.seal("canary", bound_to=PLACE), bound_to=place)


def test_while_rotating_old_ciphertexts_open_and_new_ones_take_the_newest_key() -> None:
    sealed_before = Vault([OLD]).seal("old", bound_to=PLACE)
    rotating = Vault([NEW, OLD])
    assert rotating.open(sealed_before, bound_to=PLACE) == "old"
    sealed_now = rotating.seal("new", bound_to=PLACE)
    assert Vault([NEW]).open(sealed_now, bound_to=PLACE) == "new"
    with pytest.raises(SettingsError):
        Vault([OLD]).open(sealed_now, bound_to=PLACE)


SEALED = Vault([NEW]).seal("a secret of some length", bound_to=PLACE)


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_any_changed_byte_is_noticed(place: int) -> None:
    altered = SEALED[:place] + bytes([SEALED[place] ^ 1]) + SEALED[place + 1 :]
    with pytest.raises(SettingsError):
        Vault([NEW]).open(altered, bound_to=PLACE)


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_ciphertext_that_was_cut_is_noticed(length: int) -> None:
    with pytest.raises(SettingsError):
        Vault([NEW]).open(SEALED[:length], bound_to=PLACE)


@given(st.binary())
def test_rubbish_is_refused(sealed: bytes) -> None:
    with pytest.raises(SettingsError):
        Vault([NEW, OLD]).open(sealed, bound_to=PLACE)


def test_without_a_key_nothing_is_sealed_or_opened_and_the_setting_is_named() -> None:
    for attempt in (
        lambda: Vault([]).seal("canary", bound_to=PLACE),
        lambda: Vault([]).open(SEALED, bound_to=PLACE),
    ):
        with pytest.raises(SettingsError, match="SHOPSYNC_ENCRYPTION_KEY must be set"):
            attempt()


def test_a_key_is_made_once_for_the_owner_s_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "key"
    (key,) = load_or_make_keys(path)
    assert len(key) == 32
    assert load_or_make_keys(path) == [key]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_a_key_made_by_another_process_meanwhile_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(base64.urlsafe_b64encode(OLD).decode() + "\n")
    assert load_or_make_keys(path) == [OLD]


@pytest.mark.parametrize("content", [b"", b"\n", b"!!!", b"c2hvcnQ=", b"\xff\xfe", b"QUJD" * 20])
def test_a_damaged_key_file_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=str(path)):
        load_or_make_keys(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=str(tmp_path)):
        load_or_make_keys(tmp_path)
