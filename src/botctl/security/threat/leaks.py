"""Finds tokens and keys in what a bot is about to send. Pure; it looks at one message, never at what came before.

A token of any Telegram bot is found by its form; the bot's own secrets also in base64 (any alignment), hexadecimal,
percent-encoded, reversed, in full-width letters, and with blanks or marks between the characters. A secret that is
encrypted, split over several messages or spelled in words is not found: this catches accidents and prompt injection,
it doesn't hold a program that wants to talk.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from botctl.disguises import SHORTEST, encodings, parts

TOKEN = re.compile(r"(?<![0-9A-Za-z_-])[0-9]{6,12}:[A-Za-z0-9_-]{35}(?![0-9A-Za-z_-])")
"""As @BotFather gives them; telling one from a longer word is what the edges are for."""

_HARMLESS = frozenset({"123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"})
"""Examples of Telegram's own documentation."""

CANARY = "the word of a canary"
"""What `find` says of it: who has it has read rows that are nobody's."""

_MOST_TOKENS = 20
"""In one text that are compared with the canary."""

_FILLING = dict.fromkeys(map(ord, " \t\n\r\v\f|*_~`<>/.,;+\"'()[]{}=\\-"))
"""Blanks and marks that may stand between the characters of a secret; what isn't ASCII is taken for such as well."""


class LeakFinder:
    """`secrets` are the bot's own, by what they are called; the part of a token behind the colon counts by itself.

    `canary` is the SHA-256 of the word in the canaries, which has the form of a token.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None, canary: str = "") -> None:
        self.canary = canary
        self._needles: dict[str, str] = {}
        self._bare: dict[str, str] = {}
        for name, secret in (secrets or {}).items():
            for part in parts(secret):
                if len(part) >= SHORTEST:
                    self._needles |= dict.fromkeys({part} | encodings(part), name)
                    self._bare[_bare(part)] = name

    def find(self, texts: Iterable[str]) -> str | None:
        """What kind of secret is in one of these texts, in words that don't repeat it; None for nothing."""
        for text in texts:
            if found := self._find(text):
                return found
        return None

    def _find(self, text: str) -> str | None:
        if len(text) < SHORTEST:
            return None
        tokens = [match[0] for match in TOKEN.finditer(text) if match[0] not in _HARMLESS]
        if tokens:
            met = self.canary in (hashlib.sha256(token.encode()).hexdigest() for token in tokens[:_MOST_TOKENS])
            return CANARY if met else "a bot token"
        plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
        for seen in {plain, unquote(plain)} if "%" in plain else (plain,):
            for needle, name in self._needles.items():
                if needle in seen:
                    return name
        bare = _bare(plain)
        return next((name for needle, name in self._bare.items() if len(needle) >= SHORTEST and needle in bare), None)


def _bare(text: str) -> str:
    """Without anything that may stand between characters; a secret's own dashes and underscores go too."""
    return text.encode("ascii", "ignore").decode("ascii").translate(_FILLING)
