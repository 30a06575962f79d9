"""What users write, what must come back, and what has come. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

_PART = re.compile(r"\bm(\d+)x\b(?: (\d)/(\d))?")


class Kind(Enum):
    """How a message is answered; the value is its number of parts."""

    NOTE = "note", 1
    """One call of a handler."""
    CALLS = "calls", 3
    """Three calls, one after the other."""
    PARTS = "parts", 3
    """Three sends that are planned with the end of the update."""
    ASK = "ask", 1
    """The assistant's answer."""
    EDIT = "edit", 2
    """A message, which is then edited."""
    BUTTON = "button", 1
    """A message with a button, which the user presses."""
    PRESS = "press", 1
    """The press, answered by a message."""
    PASS = "pass", 1
    """An event to another bot, which writes to a chat of its own."""

    @property
    def parts(self) -> int:
        """Parts of its answer."""
        return self.value[1]


SHARES = {Kind.NOTE: 5, Kind.CALLS: 1, Kind.PARTS: 2, Kind.ASK: 3, Kind.EDIT: 1, Kind.BUTTON: 1, Kind.PASS: 2}


@dataclass
class Message:
    """One message. Times are seconds since the epoch; `seen` has those of each part, the first ones first.

    `bot` and `chat` are whom it is written to; `answers_in` is the bot and chat its answer comes from.
    """

    number: int
    kind: Kind
    bot: int
    chat: int
    answers_in: tuple[int, int]
    at: float
    update_id: int | None = None
    apology: float | None = None
    """When the assistant has excused itself instead."""
    seen: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = [[] for _ in range(self.kind.parts)]

    @property
    def mark(self) -> str:
        """What stands in it and in its answer."""
        return f"m{self.number}x"

    @property
    def answered(self) -> float | None:
        """When the last part of the answer came."""
        if self.apology is not None:
            return self.apology
        return max(times[0] for times in self.seen) if all(self.seen) else None

    @property
    def latency(self) -> float | None:
        """Seconds to the first part of the answer."""
        firsts = [times[0] for times in self.seen if times] or ([] if self.apology is None else [self.apology])
        return min(firsts) - self.at if firsts else None

    @property
    def surplus(self) -> int:
        """Parts that came more than once."""
        return sum(max(0, len(times) - 1) for times in self.seen)


@dataclass(frozen=True)
class Sight:
    """A part as a user has seen it."""

    number: int
    part: int
    """From 0."""


def sight_of(text: str) -> Sight | None:
    """Which part a text is; None for one that answers nothing."""
    found = _PART.search(text)
    return Sight(int(found[1]), int(found[2] or 1) - 1) if found is not None else None


def disorder(messages: dict[int, Message], order: dict[tuple[int, int], list[Sight]]) -> Iterable[str]:
    """First sights in each chat must come in the order in which the messages were written, and their parts in theirs.

    Other bots' events come into chats where nobody writes, from many publishers: they have no order there.
    """
    for (bot, chat), sights in order.items():
        firsts = [sight for sight in dict.fromkeys(sights) if messages[sight.number].kind is not Kind.PASS]
        for before, after in itertools.pairwise(firsts):
            if (before.number, before.part) > (after.number, after.part):
                yield (
                    f"bot {bot}, chat {chat}: part {before.part} of m{before.number}x came before "
                    f"part {after.part} of m{after.number}x"
                )
