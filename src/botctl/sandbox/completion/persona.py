"""Who the model is, read from the instructions, and the manner in which it speaks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMED = re.compile(
    r"\byou(?:'re| are)\s+(?:called\s+|named\s+)?(?P<name>[A-Z][\w’'-]*(?:\s[A-Z][\w’'-]*)?)(?P<rest>[^.;\n]*)"
)
_NAMED_LATER = re.compile(r"\b(?:your name is|call yourself|named|called)\s+(?P<name>[A-Z][\w’'-]*)", re.IGNORECASE)
_TRADE = re.compile(r"\byou(?:'re| are)\s+(?P<trade>an?\s+[^,.;\n]{3,60})", re.IGNORECASE)

_MANNERS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"cheerful", "friendly", "warm", "bubbly", "happy", "enthusiastic"}), "{name} here, happy to help! "),
    (frozenset({"grumpy", "gruff", "sarcastic", "stern", "weary", "tired"}), "{name}. Hmph. "),
    (frozenset({"polite", "formal", "courteous", "butler", "discreet"}), "{name}, at your service. "),
    (frozenset({"pirate", "captain", "sailor"}), "Arr, {name} here! "),
    (frozenset({"poet", "poetic", "dreamy"}), "Softly speaks {name}: "),
    (frozenset({"terse", "brief", "laconic", "concise"}), "{name}: "),
)
_PLAIN = "{name} here. "


@dataclass(frozen=True, slots=True)
class Persona:
    """A name (or a trade, when the instructions give no name) and the words every answer begins with."""

    name: str
    opening: str

    def speak(self, text: str) -> str:
        """The text in this persona's manner."""
        return self.opening + text


def read_persona(instructions: str) -> Persona:
    """The persona of the instructions; nobody, speaking plainly, when they name none."""
    words = set(re.findall(r"[a-z]+", instructions.lower()))
    named = _NAMED.search(_initial(instructions)) or _NAMED_LATER.search(instructions)
    name = named.group("name").strip() if named is not None else ""
    opening = next((manner for signs, manner in _MANNERS if words & signs), _PLAIN)
    if name:
        return Persona(name, opening.format(name=name))
    trade = _TRADE.search(instructions)
    if trade is not None:
        name = trade.group("trade").strip()
        return Persona(name, f"As {name}: ")
    return Persona("", "")


def _initial(instructions: str) -> str:
    """Instructions with every "You are" in small letters, so that only names are capital after it."""
    return re.sub(r"\bYou(['’]re| are)\b", lambda found: "you" + found.group(1).replace("’", "'"), instructions)
