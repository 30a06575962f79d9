"""Envelope encryption: a bot's data keys seal values of its own, the master key wraps data keys. AES-256-GCM.

A sealed value is a version byte, the data key's id (four bytes), a nonce of twelve random bytes, ciphertext and tag.
Authenticated with it, though not in it, is its place: `version|table|column|bot_id|key_id`, so that it opens nowhere
else. Random nonces are safe for 2^32 values of one key. No I/O; never hands out half a value: it opens wholly or not.
"""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from botctl.errors import VaultError
from botctl.security.master_keys import MasterKey, MasterKeys

VERSION = 1
KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16

_HEADER = struct.Struct(">BI")
_SHORTEST = _HEADER.size + NONCE_SIZE + TAG_SIZE
_NAME = re.compile(r"[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*)?")
_WRAPPED_IN = ("bot_keys", "wrapped")


@dataclass(frozen=True, slots=True)
class DataKey:
    """One data key of one bot; `key_id` counts from 1 within the bot."""

    bot_id: int
    key_id: int
    material: bytes = field(repr=False)

    @classmethod
    def new(cls, bot_id: int, key_id: int) -> DataKey:
        """From the system's random numbers."""
        return cls(bot_id, key_id, secrets.token_bytes(KEY_SIZE))


class Cipher:
    """All data keys of one bot: the newest seals, each opens what it has sealed.

    `take` replaces them while others seal and open.
    """

    def __init__(self, bot_id: int, keys: Sequence[DataKey] = ()) -> None:
        self.bot_id = bot_id
        self._keys: dict[int, AESGCM] = {}
        self._newest = 0
        self.take(keys)

    def take(self, keys: Sequence[DataKey]) -> None:
        """From now on these. Raises VaultError for a key of another bot."""
        if any(key.bot_id != self.bot_id for key in keys):
            raise VaultError(f"bot {self.bot_id} was given a data key of another bot")
        self._keys = {key.key_id: AESGCM(key.material) for key in keys}
        self._newest = max(self._keys, default=0)

    @property
    def newest(self) -> int:
        """Id of the key that seals; 0 without any."""
        return self._newest

    def seal(self, table: str, column: str, plain: bytes) -> bytes:
        """Encrypt a value for this place. Raises VaultError without a key."""
        key_id = self._newest
        key = self._keys.get(key_id)
        if key is None:
            raise VaultError(f"bot {self.bot_id} has no data key", hint="Is `control` running? See `botctl status`.")
        nonce = secrets.token_bytes(NONCE_SIZE)
        place = _place(VERSION, table, column, self.bot_id, key_id)
        return _HEADER.pack(VERSION, key_id) + nonce + key.encrypt(nonce, plain, place)

    def open(self, table: str, column: str, sealed: bytes) -> bytes:
        """Decrypt a value from this place. Raises VaultError when it was sealed elsewhere, or changed."""
        key_id = key_id_of(sealed)
        key = self._keys.get(key_id)
        if key is None:
            raise VaultError(
                f"a value in {table}.{column} of bot {self.bot_id} is sealed with data key {key_id}, "
                "which this bot does not have"
            )
        place = _place(VERSION, table, column, self.bot_id, key_id)
        start = _HEADER.size + NONCE_SIZE
        try:
            return key.decrypt(sealed[_HEADER.size : start], sealed[start:], place)
        except InvalidTag:
            raise VaultError(
                f"a value in {table}.{column} of bot {self.bot_id} can't be opened: "
                "it was sealed for another bot or column, or has been changed"
            ) from None


def key_id_of(sealed: bytes) -> int:
    """Id of the data key a value is sealed with. Raises VaultError for what is no sealed value."""
    if len(sealed) < _SHORTEST:
        raise VaultError(f"{len(sealed)} bytes are no sealed value: at least {_SHORTEST} are")
    version, key_id = _HEADER.unpack_from(sealed)
    if version != VERSION:
        raise VaultError(
            f"a value is sealed in format {version}, and this botctl knows {VERSION}", hint="Upgrade botctl."
        )
    return int(key_id)


def wrap(master: MasterKey, key: DataKey) -> bytes:
    """Encrypt a data key, for the bot it is of."""
    nonce = secrets.token_bytes(NONCE_SIZE)
    sealed = AESGCM(master.material).encrypt(nonce, key.material, _wrapped_place(master, key.bot_id, key.key_id))
    return _HEADER.pack(VERSION, master.version) + nonce + sealed


def unwrap(masters: MasterKeys, bot_id: int, key_id: int, wrapped: bytes) -> DataKey:
    """Decrypt a data key. Raises VaultError for a master key that is missing or wrong, and for another bot's key."""
    version = key_id_of(wrapped)
    master = masters.find(version)
    if master is None:
        raise VaultError(f"data key {key_id} of bot {bot_id} needs master key version {version}, which is not here")
    start = _HEADER.size + NONCE_SIZE
    try:
        material = AESGCM(master.material).decrypt(
            wrapped[_HEADER.size : start], wrapped[start:], _wrapped_place(master, bot_id, key_id)
        )
    except InvalidTag:
        raise VaultError(
            f"data key {key_id} of bot {bot_id} can't be unwrapped: it is another bot's, has been changed, "
            f"or master key version {version} is not the one that wrapped it"
        ) from None
    return DataKey(bot_id, key_id, material)


def _wrapped_place(master: MasterKey, bot_id: int, key_id: int) -> bytes:
    return _place(VERSION, *_WRAPPED_IN, bot_id, key_id) + b"|%d" % master.version


@lru_cache(maxsize=256)
def _place(version: int, table: str, column: str, bot_id: int, key_id: int) -> bytes:
    """What is authenticated with a value. No part can hold the separator, so that two places never look alike."""
    if not _NAME.fullmatch(table) or not _NAME.fullmatch(column):
        raise ValueError(f"no name of a column: {table!r}.{column!r}")
    return f"{version}|{table}|{column}|{bot_id}|{key_id}".encode()
