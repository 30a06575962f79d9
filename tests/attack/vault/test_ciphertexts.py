"""Every declared attack on sealed values is refused, and gets through where the vault is weakened."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from attack.cases import ATTACKS, CASES
from attack.vault import ciphertexts
from botctl.security import master_keys, vault
from botctl.security.vault import TAG_SIZE, DataKey

Patch = pytest.MonkeyPatch

MINE = [name for name, case in CASES.items() if case.area == ciphertexts.AREA]
FIXED = bytes(range(32))


class Unauthenticated:
    """What AES-GCM is without its tag: AES-CTR from counter 2 on."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, _: bytes) -> bytes:
        counter = Cipher(algorithms.AES(self._key), modes.CTR(nonce + b"\0\0\0\2")).encryptor()
        return counter.update(data) + bytes(TAG_SIZE)

    def decrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        return self.encrypt(nonce, data[:-TAG_SIZE], place)[:-TAG_SIZE]


def no_place(patch: Patch) -> None:
    patch.setattr(vault, "_place", lambda *_: b"")
    patch.setattr(vault, "_wrapped_place", lambda *_: b"")


def one_key_for_all(patch: Patch) -> None:
    no_place(patch)
    patch.setattr(DataKey, "new", classmethod(lambda cls, bot_id, key_id: cls(bot_id, key_id, FIXED)))


def no_tag(patch: Patch) -> None:
    patch.setattr(vault, "AESGCM", Unauthenticated)


def one_master_key(patch: Patch) -> None:
    made = master_keys.new_keys()
    patch.setattr(master_keys, "new_keys", lambda: made)


WEAKENED: dict[str, Callable[[Patch], None]] = {
    "open another bot's ciphertext, put into one's own row": one_key_for_all,
    "open another bot's ciphertext even with its key, put into one's own row": no_place,
    "read one's own ciphertext in another column or table": no_place,
    "change a ciphertext, its header or its length": no_tag,
    "have control unwrap another bot's data key for oneself": no_place,
    "unwrap data keys of the database without its master key": one_master_key,
}


def test_they_are_declared() -> None:
    assert set(MINE) == set(WEAKENED)


@pytest.mark.parametrize("name", MINE)
def test_it_ends_as_it_must(name: str) -> None:
    assert ATTACKS[name]() == CASES[name].must


@pytest.mark.parametrize("name", MINE)
def test_it_gets_through_where_the_vault_is_weakened(name: str, monkeypatch: Patch) -> None:
    WEAKENED[name](monkeypatch)
    assert ATTACKS[name]() != CASES[name].must
