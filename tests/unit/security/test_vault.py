"""Sealed values open in their own place, with their own key, whole; or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.errors import VaultError
from botctl.security.master_keys import MasterKey, MasterKeys, new_keys
from botctl.security.vault import Cipher, DataKey, _place, key_id_of, unwrap, wrap

ALICE, BOB = 1001, 1002
KEY = DataKey(ALICE, 1, bytes(range(32)))
CIPHER = Cipher(ALICE, [KEY])


@given(st.binary(max_size=2000))
def test_what_is_sealed_opens_to_the_same(plain: bytes) -> None:
    sealed = CIPHER.seal("messages", "text", plain)
    assert CIPHER.open("messages", "text", sealed) == plain
    assert plain not in sealed or len(plain) < 8


def test_a_value_is_sealed_differently_each_time() -> None:
    assert len({CIPHER.seal("messages", "text", b"hello") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("table", "column"), [("messages", "entities"), ("inbox", "text"), ("sends", "payload"), ("messages", "text:b")]
)
def test_it_opens_in_no_other_table_or_column(table: str, column: str) -> None:
    sealed = CIPHER.seal("messages", "text", b"hello")
    with pytest.raises(VaultError, match=f"{table}.{column} of bot {ALICE} can't be opened"):
        CIPHER.open(table, column, sealed)


def test_it_opens_for_no_other_bot_even_with_the_same_key() -> None:
    other = Cipher(BOB, [DataKey(BOB, 1, KEY.material)])
    with pytest.raises(VaultError, match="sealed for another bot"):
        other.open("messages", "text", CIPHER.seal("messages", "text", b"hello"))


def test_it_opens_under_no_other_key_id_even_with_the_same_key() -> None:
    sealed = CIPHER.seal("messages", "text", b"hello")
    renamed = Cipher(ALICE, [DataKey(ALICE, 2, KEY.material)])
    with pytest.raises(VaultError, match="data key 1, which this bot does not have"):
        renamed.open("messages", "text", sealed)
    forged = sealed[:1] + (2).to_bytes(4, "big") + sealed[5:]
    with pytest.raises(VaultError, match="can't be opened"):
        renamed.open("messages", "text", forged)


def test_another_format_is_refused() -> None:
    sealed = CIPHER.seal("messages", "text", b"hello")
    with pytest.raises(VaultError, match="format 2"):
        CIPHER.open("messages", "text", b"\x02" + sealed[1:])


def test_the_format_version_is_authenticated_too() -> None:
    assert len({_place(version, "messages", "text", ALICE, 1) for version in (1, 2)}) == 2
    parts = [(1, "messages", "text", 1, 12), (1, "messages", "text", 11, 2), (1, "messages", "text", 1, 1)]
    assert len({_place(*part) for part in parts}) == len(parts)


@pytest.mark.parametrize("name", ["", "a|b", "a b", "Text", "text:", "a:b:c"])
def test_a_name_that_could_hold_the_separator_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a column"):
        CIPHER.seal("messages", name, b"")


def test_every_truncation_is_refused() -> None:
    sealed = CIPHER.seal("messages", "text", b"hello")
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            CIPHER.open("messages", "text", sealed[:length])
    with pytest.raises(VaultError):
        CIPHER.open("messages", "text", sealed + b"\0")


def test_every_flipped_bit_is_refused() -> None:
    sealed = CIPHER.seal("messages", "text", b"hello")
    for position in range(len(sealed)):
        for bit in range(8):
            forged = bytearray(sealed)
            forged[position] ^= 1 << bit
            with pytest.raises(VaultError):
                CIPHER.open("messages", "text", bytes(forged))


def test_the_newest_key_seals_and_old_ones_open() -> None:
    old = Cipher(ALICE, [KEY]).seal("messages", "text", b"old")
    rotated = Cipher(ALICE, [KEY])
    rotated.take([DataKey.new(ALICE, 2), KEY])
    new = rotated.seal("messages", "text", b"new")
    assert (key_id_of(old), key_id_of(new), rotated.newest) == (1, 2, 2)
    assert (rotated.open("messages", "text", old), rotated.open("messages", "text", new)) == (b"old", b"new")
    with pytest.raises(VaultError, match="does not have"):
        CIPHER.open("messages", "text", new)


def test_without_a_key_nothing_is_sealed_and_a_foreign_key_is_refused() -> None:
    with pytest.raises(VaultError, match="has no data key"):
        Cipher(ALICE).seal("messages", "text", b"hello")
    with pytest.raises(VaultError, match="another bot"):
        Cipher(ALICE, [DataKey.new(BOB, 1)])


def test_a_wrapped_key_is_unwrapped_for_its_own_bot_and_id_only() -> None:
    masters = new_keys()
    wrapped = wrap(masters.current, KEY)
    assert unwrap(masters, ALICE, 1, wrapped) == KEY
    for bot_id, key_id in ((BOB, 1), (ALICE, 2)):
        with pytest.raises(VaultError, match="can't be unwrapped"):
            unwrap(masters, bot_id, key_id, wrapped)
    for position in range(len(wrapped)):
        forged = bytearray(wrapped)
        forged[position] ^= 1
        with pytest.raises(VaultError):
            unwrap(masters, ALICE, 1, bytes(forged))
    for length in range(len(wrapped)):
        with pytest.raises(VaultError):
            unwrap(masters, ALICE, 1, wrapped[:length])


def test_a_wrong_or_missing_master_key_is_said() -> None:
    masters = new_keys()
    wrapped = wrap(masters.current, KEY)
    with pytest.raises(VaultError, match="is not the one that wrapped it"):
        unwrap(new_keys(), ALICE, 1, wrapped)
    later = MasterKeys((MasterKey(2, masters.current.material),))
    with pytest.raises(VaultError, match="needs master key version 1, which is not here"):
        unwrap(later, ALICE, 1, wrapped)
    forged = wrapped[:1] + (2).to_bytes(4, "big") + wrapped[5:]
    with pytest.raises(VaultError, match="can't be unwrapped"):
        unwrap(later, ALICE, 1, forged)


def test_no_key_stands_in_a_repr() -> None:
    key = DataKey.new(ALICE, 1)
    for shown in (repr(key), repr(new_keys())):
        assert "material" not in shown
    assert repr(key.material) not in repr(key)
