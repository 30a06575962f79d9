"""Envelope encryption: a bot's data keys seal values of its own, the master key wraps data keys. AES-256-GCM.

A sealed value is a version byte, the data key's id (four bytes), a nonce of twelve random bytes, ciphertext and tag.
Authenticated with it, though not in it, is its place: `version|table|column|bot_id|key_id`, so that it opens nowhere
else. Random nonces are safe for 2^32 values of one key. No I/O; never hands out half a value: it opens wholly or not.
"""

from __future__ import annotations

import os
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
_AT_NONCE = _HEADER.size
_AT_TEXT = _AT_NONCE + NONCE_SIZE
_SHORTEST = _AT_TEXT + TAG_SIZE
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
        self._keys: dict[bytes, tuple[int, AESGCM]] = {}
        """By the header of what they have sealed."""
        self._newest: tuple[bytes, int, AESGCM] | None = None
        self.take(keys)

    def take(self, keys: Sequence[DataKey]) -> None:
        """From now on these. Raises VaultError for a key of another bot."""
        if any(key.bot_id != self.bot_id for key in keys):
            raise VaultError(f"bot {self.bot_id} was given a data key of another bot")
        self._keys = {_HEADER.pack(VERSION, key.key_id): (key.key_id, AESGCM(key.material)) for key in keys}
        header = max(self._keys, default=None)  # ordered as their numbers are
        self._newest = None if header is None else (header, *self._keys[header])

    @property
    def newest(self) -> int:
        """Id of the key that seals; 0 without any."""
        return 0 if self._newest is None else self._newest[1]

    def seal(self, table: str, column: str, plain: bytes) -> bytes:
        """Encrypt a value for this place. Raises VaultError without a key."""
        if self._newest is None:
            raise VaultError(f"bot {self.bot_id} has no data key", hint="Is `control` running? See `botctl status`.")
        header, key_id, key = self._newest
        nonce = os.urandom(NONCE_SIZE)
        return header + nonce + key.encrypt(nonce, plain, _place(VERSION, table, column, self.bot_id, key_id))

    def open(self, table: str, column: str, sealed: bytes) -> bytes:
        """Decrypt a value from this place. Raises VaultError when it was sealed elsewhere, or changed."""
        found = self._keys.get(sealed[:_AT_NONCE])
        if found is None or len(sealed) < _SHORTEST:
            raise VaultError(
                f"a value in {table}.{column} of bot {self.bot_id} is sealed with data key {key_id_of(sealed)}, "
                "which this bot does not have"
            )
        key_id, key = found
        place = _place(VERSION, table, column, self.bot_id, key_id)
        try:
            return key.decrypt(sealed[_AT_NONCE:_AT_TEXT], sealed[_AT_TEXT:], place)
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
    try:
        version = key_id_of(wrapped)
    except VaultError as error:
        raise VaultError(
            f"data key {key_id} of bot {bot_id} can't be unwrapped: {error.message}", hint=error.hint
        ) from None
    master = masters.find(version)
    if master is None:
        raise VaultError(f"data key {key_id} of bot {bot_id} needs master key version {version}, which is not here")
    place = _wrapped_place(master, bot_id, key_id)
    try:
        material = AESGCM(master.material).decrypt(wrapped[_AT_NONCE:_AT_TEXT], wrapped[_AT_TEXT:], place)
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
