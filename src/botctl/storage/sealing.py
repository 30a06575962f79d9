"""Text and JSON as they stand in a column: clear, or sealed by a cipher that whoever opens the storage brings.

A sealed text is `$sealed:` and base64, a sealed JSON value the object `{"$sealed": "…"}`; both kinds of rows may stand
side by side, and statements are the same for both. What is clear and looks like one of them is marked as clear, so that
nobody can write a text that reads as sealed. The text of a command keeps its slash in front: statements ask for it.
"""

from __future__ import annotations

import binascii
import re
from typing import Protocol

import msgspec

from botctl.errors import VaultError

SEALED, CLEAR = "$sealed:", "$clear:"
_MARKED = (SEALED, CLEAR, f"/{SEALED}", f"/{CLEAR}")
_SEALED_JSON = re.compile(r'\{"\$sealed": ?"([A-Za-z0-9+/]*={0,2})"\}')
_CLEAR_JSON = re.compile(r'\{"\$clear": ?(.*)\}', re.DOTALL)
_MARKED_JSON = ('"$sealed"', '"$clear"')


class Cipher(Protocol):
    """Seals and opens values of one bot, each in its own table and column. `open` and `seal` raise VaultError."""

    def seal(self, table: str, column: str, plain: bytes) -> bytes:
        """Encrypt a value for this place."""
        ...

    def open(self, table: str, column: str, sealed: bytes) -> bytes:
        """Decrypt a value from this place."""
        ...


class Sealing:
    """How one bot stores text. Without a cipher everything is clear; `seals` says whether new text is sealed.

    What is sealed is opened in either case, as long as there is a cipher.
    """

    def __init__(self, cipher: Cipher | None = None, *, seals: bool = False) -> None:
        if seals and cipher is None:
            raise VaultError("text is to be sealed, and there is nothing to seal it with")
        self._cipher = cipher
        self._seals = seals

    @property
    def seals(self) -> bool:
        """Whether new text is sealed."""
        return self._seals

    def text(self, table: str, column: str, text: str | None) -> str | None:
        """A text as it is to be stored; nothing and the empty text stay what they are."""
        if not text:
            return text
        slash = "/" if text[0] == "/" else ""
        if self._seals and self._cipher is not None:
            sealed = self._cipher.seal(table, column, text.encode())
            return f"{slash}{SEALED}{_base64(sealed)}"
        return f"{slash}{CLEAR}{text}" if text.startswith(_MARKED) else text

    def read_text(self, table: str, column: str, stored: str | None) -> str | None:
        """The text that was stored. Raises VaultError when it can't be opened."""
        if not stored or not stored.startswith(_MARKED):
            return stored
        kind, _, rest = stored.removeprefix("/").partition(":")
        if f"{kind}:" == CLEAR:
            return rest
        return self._open(table, column, rest).decode()

    def json(self, table: str, column: str, encoded: str) -> str:
        """JSON text as it is to be stored."""
        if self._seals and self._cipher is not None:
            sealed = self._cipher.seal(table, column, encoded.encode())
            return f'{{"$sealed":"{_base64(sealed)}"}}'
        return f'{{"$clear":{encoded}}}' if any(mark in encoded for mark in _MARKED_JSON) else encoded

    def read_json(self, table: str, column: str, stored: str) -> str:
        """The JSON text that was stored. Raises VaultError when it can't be opened."""
        if not stored.startswith('{"$'):
            return stored
        if (match := _SEALED_JSON.fullmatch(stored)) is not None:
            return self._open(table, column, match[1]).decode()
        if (match := _CLEAR_JSON.fullmatch(stored)) is not None:
            return match[1]
        return stored

    def _open(self, table: str, column: str, encoded: str) -> bytes:
        if self._cipher is None:
            raise VaultError(f"a value in {table}.{column} is sealed, and there is nothing to open it with")
        try:
            sealed = msgspec.convert(encoded, bytes)  # base64, three times as fast as Python's and as strict
        except msgspec.ValidationError:
            raise VaultError(f"a value in {table}.{column} is marked as sealed, and is not") from None
        return self._cipher.open(table, column, sealed)


def _base64(sealed: bytes) -> str:
    return binascii.b2a_base64(sealed, newline=False).decode("ascii")


def sealed_bytes(stored: str | None) -> bytes | None:
    """The ciphertext in a text or a JSON text as it stands in a column; None when it is clear, or marked and none."""
    if not stored:
        return None
    match = _SEALED_JSON.fullmatch(stored)
    marked = stored.removeprefix("/")
    if match is None and not marked.startswith(SEALED):
        return None
    try:
        return msgspec.convert(match[1] if match is not None else marked.removeprefix(SEALED), bytes)
    except msgspec.ValidationError:
        return None


UNSEALED = Sealing()
"""For whoever stores and reads clear text only."""
