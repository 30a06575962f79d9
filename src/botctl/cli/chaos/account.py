"""The users' account: every message they sent, every answer they got, and what follows from that. Pure.

An answer belongs to the message whose mark it repeats. Bots needn't repeat it: an answer without a mark belongs to the
oldest message of its chat that waits for one, since a bot answers a chat in order; when none waits, it is one too many
for the newest. Lost is what expects an answer and has none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from botctl.cli.chaos.scenario import Contains, Expectation

MARK = re.compile(r"\bm(\d+)x\b")


@dataclass(slots=True)
class Message:
    """One message of a user. Times are seconds since the epoch."""

    number: int
    bot_id: int
    chat_id: int
    at: float
    expects: Expectation = "reply"
    replies: int = 1
    query_id: str = ""
    """Of a pressed button: its answer is the query's, an edit, or any message."""
    flood: bool = False
    answers: list[float] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """What stands for it in its text, and in an answer that repeats it."""
        return f"m{self.number}x"

    @property
    def expected(self) -> bool:
        """Whether an answer must come."""
        return self.expects == "reply" or isinstance(self.expects, Contains)

    @property
    def waits(self) -> bool:
        """Whether answers must come and haven't, all of them."""
        return self.expected and len(self.answers) < self.replies

    @property
    def extra(self) -> int:
        """Answers too many: a message for which any number is right has none."""
        if self.query_id or self.expects == "maybe":
            return 0
        return max(0, len(self.answers) - (self.replies if self.expected else 0))

    @property
    def latency(self) -> float | None:
        """Seconds to the first answer."""
        return self.answers[0] - self.at if self.answers else None

    def fits(self, text: str) -> bool:
        """Whether a text may be its answer, as far as the scenario says what must be in it."""
        return not isinstance(self.expects, Contains) or self.expects.contains.replace("{mark}", self.mark) in text


class Account:
    """All messages of all users to all bots."""

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.unexpected: list[str] = []
        """Texts that answer nothing that was asked."""
        self._chats: dict[tuple[int, int], list[Message]] = defaultdict(list)
        self._answered: dict[tuple[int, int], list[int]] = defaultdict(list)

    def send(self, bot_id: int, chat_id: int, at: float, expects: Expectation = "reply", replies: int = 1) -> Message:
        """Enter a message that is about to be sent; its mark is known from now on."""
        message = Message(len(self.messages) + 1, bot_id, chat_id, at, expects, replies)
        self.messages[message.number] = message
        self._chats[bot_id, chat_id].append(message)
        return message

    def answer(self, bot_id: int, chat_id: int, text: str, at: float) -> Message | None:
        """Enter a bot's message; what it answers, None when that is nothing."""
        chat = self._chats.get((bot_id, chat_id), [])
        message = self._marked(bot_id, chat_id, text) or _oldest_that_waits(chat, text)
        if message is None:
            message = next((one for one in reversed(chat) if one.answers), None)
        if message is None:
            self.unexpected.append(f"bot {bot_id}, chat {chat_id}: {text[:100]}")
            return None
        self._enter(message, at)
        return message

    def acted(self, bot_id: int, chat_id: int | None, query_id: str, at: float) -> Message | None:
        """Enter what a bot did that is no message but answers a pressed button: the query's answer, or an edit."""
        found = (
            one
            for key, messages in self._chats.items()
            if key[0] == bot_id and chat_id in (None, key[1])
            for one in messages
            if one.query_id and one.waits and query_id in ("", one.query_id)
        )
        message = next(found, None)
        if message is not None:
            self._enter(message, at)
        return message

    def waiting(self, bot_id: int | None = None, *, before: float = float("inf")) -> list[Message]:
        """Messages sent before that moment that must be answered and aren't."""
        return [one for one in self.of(bot_id) if one.waits and one.at <= before]

    def of(self, bot_id: int | None = None) -> Iterator[Message]:
        """All messages, or those to one bot, oldest first."""
        return (one for one in self.messages.values() if bot_id in (None, one.bot_id))

    def disorder(self) -> int:
        """How often, in any chat, an earlier message got its first answer after a later one."""
        return sum(later < earlier for numbers in self._answered.values() for earlier, later in pairwise(numbers))

    def _enter(self, message: Message, at: float) -> None:
        message.answers.append(at)
        if len(message.answers) == 1:
            self._answered[message.bot_id, message.chat_id].append(message.number)

    def _marked(self, bot_id: int, chat_id: int, text: str) -> Message | None:
        for match in MARK.finditer(text):
            message = self.messages.get(int(match[1]))
            if message is not None and (message.bot_id, message.chat_id) == (bot_id, chat_id) and message.fits(text):
                return message
        return None


def _oldest_that_waits(chat: Iterable[Message], text: str) -> Message | None:
    """Required answers before optional ones; a message in the middle of several answers waits for the rest."""
    optional = None
    for message in chat:
        if message.expected and len(message.answers) < message.replies and message.fits(text):
            return message
        if message.expects == "maybe" and not message.answers and optional is None:
            optional = message
    return optional
