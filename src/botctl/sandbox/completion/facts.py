"""Facts people state about themselves and the world, and questions about them. Pure.

Understands little, and on purpose the same little every time: "my X is Y", "my name is", "call me", "I am called",
"I live in", "I am N years old", "remember that X is Y"; and the questions that ask for these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SPELLING = {"favorite": "favourite", "color": "colour", "colors": "colours", "neighbor": "neighbour"}
_SPLIT = re.compile(
    r"(?<=[.!?])\s+|\n+|;\s*|,?\s+(?:and|but)\s+(?=(?:my|I(?:'m|’m)?|call me|remember|what|where|who)\b)", re.IGNORECASE
)
_END = r"\s*[.!]*$"

_NAME = re.compile(
    r"\b(?:my name is|i am called|i'm called|(?:please )?call me)\s+(?P<value>.+?)" + _END, re.IGNORECASE
)
_HOME = re.compile(r"\bi (?:now )?live (?P<value>(?:in|at|near|on)\s+.+?)" + _END, re.IGNORECASE)
_AGE = re.compile(r"\bi(?:'m| am)\s+(?P<value>\d{1,3})\s+years?\s+old", re.IGNORECASE)
_MINE = re.compile(r"\bmy (?P<key>[\w' -]{1,60}?) (?:is|are|was)(?: now)? (?P<value>.+?)" + _END, re.IGNORECASE)
_REMEMBER = re.compile(
    r"\b(?:remember|note|keep in mind|don't forget)(?: that|:)?\s+(?:the )?(?P<key>[^?]{1,80}?)"
    r" (?P<verb>is|are) (?P<value>.+?)" + _END,
    re.IGNORECASE,
)

_ASK_NAME = re.compile(r"\b(?:what(?:'s| is)|tell me|do you (?:know|remember)) my name\b|\bwho am i\b", re.IGNORECASE)
_ASK_HOME = re.compile(r"\bwhere do i live\b|\bwhere i live\b", re.IGNORECASE)
_ASK_AGE = re.compile(r"\bhow old am i\b|\bwhat(?:'s| is) my age\b", re.IGNORECASE)
_ASK_MINE = re.compile(
    r"\b(?:what(?:'s| is| are| was)|who(?:'s| is| are)|which is|tell me|do you (?:know|remember)(?: what)?)"
    r" my (?P<key>[\w' -]{1,60}?)(?: is| are)?\s*[?.!]*$",
    re.IGNORECASE,
)
_ASK_OTHER = re.compile(
    r"\b(?:what(?:'s| is| are)|who(?:'s| is))\s+(?P<the>the )?(?P<key>[^?]{1,80}?)\s*[?.!]*$", re.IGNORECASE
)
_QUESTION = re.compile(
    r"^\W*(?:what|who|where|which|how old|do you (?:know|remember)|can you tell|tell me my|when|why|how)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Facts:
    """What was stated, the last statement of each kind."""

    name: str | None = None
    home: str | None = None
    age: str | None = None
    own: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Key in standard spelling → (key as the person wrote it, value)."""
    other: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Key in standard spelling → (key as written, verb, value)."""


def sentences(text: str) -> list[str]:
    """The parts of a text that state or ask one thing each."""
    return [part.strip() for part in _SPLIT.split(text.replace("’", "'")) if part and part.strip()]


def is_question(sentence: str) -> bool:
    """Whether a sentence asks, with a question mark or without."""
    return sentence.rstrip().endswith("?") or _QUESTION.match(sentence) is not None


def read_statements(text: str, facts: Facts) -> list[str]:
    """Take up all statements of a text; what to say to each."""
    replies: list[str] = []
    for sentence in sentences(text):
        if not is_question(sentence):
            reply = _read_statement(sentence, facts)
            if reply is not None:
                replies.append(reply)
    return replies


def answer_question(sentence: str, facts: Facts) -> str | None:
    """The answer to a question about facts; None when the question isn't about any."""
    if _ASK_NAME.search(sentence):
        return _or_unknown(facts.name, "Your name is {}.", "name")
    if _ASK_HOME.search(sentence):
        return _or_unknown(facts.home, "You live {}.", "home")
    if _ASK_AGE.search(sentence):
        return _or_unknown(facts.age, "You are {} years old.", "age")
    asked = _ASK_MINE.search(sentence)
    if asked is not None:
        key = asked.group("key").strip()
        known = facts.own.get(_standard(key))
        return f"Your {known[0]} is {known[1]}." if known is not None else f"I don't know your {key} yet."
    asked = _ASK_OTHER.search(sentence)
    if asked is not None:
        key = asked.group("key").strip()
        told = facts.other.get(_standard(key))
        if told is not None:
            return f"{_capital(told[0])} {told[1]} {told[2]}."
        return f"I don't know what {asked.group('the') or ''}{key} is yet."
    return None


def _read_statement(sentence: str, facts: Facts) -> str | None:
    found = _NAME.search(sentence)
    if found is not None:
        facts.name = found.group("value")
        return f"Nice to meet you, {facts.name}."
    found = _HOME.search(sentence)
    if found is not None:
        facts.home = found.group("value")
        return f"Noted: you live {facts.home}."
    found = _AGE.search(sentence)
    if found is not None:
        facts.age = found.group("value")
        return f"Noted: you are {facts.age} years old."
    found = _MINE.search(sentence)
    if found is not None:
        key, value = found.group("key").strip(), found.group("value")
        facts.own[_standard(key)] = (key, value)
        return f"Noted: your {key} is {value}."
    found = _REMEMBER.search(sentence)
    if found is not None:
        key, verb, value = found.group("key").strip(), found.group("verb").lower(), found.group("value")
        facts.other[_standard(key)] = (f"the {key}" if f" the {key.lower()}" in sentence.lower() else key, verb, value)
        return f"I will remember that {facts.other[_standard(key)][0]} {verb} {value}."
    return None


def _or_unknown(value: str | None, known: str, what: str) -> str:
    return known.format(value) if value is not None else f"I don't know your {what} yet."


def _standard(key: str) -> str:
    words = re.findall(r"[\w']+", key.lower())
    return " ".join(_SPELLING.get(word, word) for word in words)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
