"""The emulated language model: the same request always gets the same answer, nothing is kept in between. Pure.

It knows what a conversation with an assistant can be tested by: a persona from the instructions, facts told in earlier
messages of the same request, short answers, and long ones in Markdown. Whatever it "remembers" therefore came from the
client's own memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from botctl.sandbox.completion.facts import Facts, answer_question, is_question, read_statements, sentences
from botctl.sandbox.completion.persona import read_persona
from botctl.sandbox.completion.texts import MARKDOWN_SAMPLE, long_answer

_WORD_COUNT = re.compile(
    r"\b(?:write|in|about|with|of)\s+(?:me\s+)?(?:at least\s+|about\s+)?(\d{1,5})[ -]words?\b", re.I
)
_LONG = re.compile(
    r"\b(?:very\s+)?long(?:er)?\s+(?:answer|reply|text|story|message|essay)\b|\bat (?:great )?length\b", re.I
)
_GREETING = re.compile(r"^\W*(?:hello|hi|hey|good (?:morning|evening|afternoon)|/start)\b", re.I)
_THANKS = re.compile(r"^\W*(?:thanks|thank you|thx)\b", re.I)
ECHO_LIMIT = 200
MOST_WORDS = 5_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation; `role` is user, assistant or system."""

    role: str
    text: str


def answer(instructions: str, turns: Sequence[Turn]) -> str:
    """The model's reply to the last user message, given all turns before it."""
    persona = read_persona(instructions)
    asked = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=-1)
    if asked < 0:
        return persona.speak("Hello! How can I help you?")
    facts = Facts()
    for turn in turns[:asked]:
        if turn.role == "user":
            read_statements(turn.text, facts)
    return persona.speak(_reply(turns[asked].text.strip(), facts))


def _reply(text: str, facts: Facts) -> str:
    count = _WORD_COUNT.search(text)
    if count is not None:
        return long_answer(_topic(text), words=min(int(count.group(1)), MOST_WORDS))
    if _LONG.search(text):
        return long_answer(_topic(text))
    if re.search(r"\bmarkdown\b", text, re.I):
        return MARKDOWN_SAMPLE
    replies: list[str] = []
    for sentence in sentences(text):
        if is_question(sentence):
            found = answer_question(sentence, facts)
            if found is not None:
                replies.append(found)
        else:
            replies.extend(read_statements(sentence, facts))
    if replies:
        return " ".join(dict.fromkeys(replies))
    if _THANKS.search(text):
        return "You are welcome."
    if _GREETING.search(text):
        return "Hello! How can I help you?"
    if not text:
        return "You sent me nothing to read."
    shown = text if len(text) <= ECHO_LIMIT else text[:ECHO_LIMIT].rstrip() + "…"
    return f"You said: “{shown}” Tell me more about it."


def _topic(text: str) -> str:
    found = re.search(r"\b(?:about|on|of)\s+(?!\d)([^.?!\n]{2,60})", text, re.I)
    return found.group(1).strip() if found is not None else "your question"
