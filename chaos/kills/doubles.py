"""Parts that came more than once, held against the journal row each was sent for. Pure.

A call whose outcome is hidden may be made once more. So the copies of a row, but for one, are no more than the times
its own outcome was hidden: a part sent twice for no reason isn't excused by another row's hidden outcome.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.kills.messages import Kind, Message, sight_of


@dataclass(frozen=True)
class Row:
    """A row of the send journal. `bot`: index of the bot; `message_id`: of the copy Telegram's answer is known of."""

    bot: int
    cause: str
    n: int
    chat: int | None
    text: str
    uncertain: int
    message_id: int | None

    def __str__(self) -> str:
        return f"{self.cause} {self.n}"


@dataclass(frozen=True)
class Excuse:
    """The assistant's excuse in place of an answer, as users saw it. `at`: seconds since the epoch."""

    bot: int
    chat: int
    message_id: int
    at: float


def doubles(messages: Mapping[int, Message], rows: Iterable[Row], names: Sequence[str]) -> Iterator[str]:
    """Sentences about parts that are in no row, in two, or were seen more often than their row excuses."""
    by_part: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        if (sight := sight_of(row.text)) is not None:
            by_part[sight.number, sight.part].append(row)
    for message in messages.values():
        name = names[message.answers_in[0]]
        for part, times in enumerate(message.seen):
            told = f"{name}: part {part} of {message.mark} ({message.kind.value[0]})"
            here = by_part[message.number, part]
            if strange := [str(row) for row in here if row.bot != message.answers_in[0]]:
                yield f"{told} stands in rows of another bot: {', '.join(strange)}"
            elif times and not here:
                yield f"{told} was seen, and stands in no row"
            elif len(here) > 1:
                yield f"{told} stands in {len(here)} rows: {', '.join(map(str, here))}"
            elif here and len(times) - 1 > here[0].uncertain:
                yield f"{told} was seen {len(times)} times; row {here[0]} is uncertain {here[0].uncertain} times"


@dataclass
class Excuses:
    """What came of the excuses. `of`: when each message's came; `surplus`: copies too many, by index of the bot."""

    of: dict[int, float]
    surplus: Counter[int]
    wrong: list[str]


def excuses(
    seen: Iterable[Excuse], rows: Iterable[Row], messages: Mapping[int, Message], names: Sequence[str]
) -> Excuses:
    """Tell which message each excuse answers; `seen` in the order of the chats.

    Excuses all read the same. The copy that a row knows is its last one, and the lanes of a chat are in order: a copy
    that stands in no row belongs to the next one of its chat that does.
    """
    known = {(row.bot, row.chat, row.message_id): row for row in rows if row.message_id is not None}
    asked = {(one.bot, f"update:{one.update_id}"): one for one in messages.values() if one.kind is Kind.ASK}
    found = Excuses({}, Counter(), [])
    unlinked: Counter[tuple[int, int]] = Counter()
    for one in seen:
        row = known.get((one.bot, one.chat, one.message_id))
        if row is None:
            unlinked[one.bot, one.chat] += 1
            found.surplus[one.bot] += 1
            continue
        copies = unlinked.pop((one.bot, one.chat), 0)
        if copies > row.uncertain:
            found.wrong.append(
                f"{names[one.bot]}: the excuse of row {row} was seen {copies + 1} times; it is uncertain "
                f"{row.uncertain} times"
            )
        message = asked.get((one.bot, row.cause))
        if message is None:
            found.wrong.append(f"{names[one.bot]}: the excuse of row {row} answers no question")
        else:
            if message.seen[0]:
                found.wrong.append(f"{names[one.bot]}: {message.mark} was answered and excused")
            found.of[message.number] = one.at
    for (bot, chat), copies in unlinked.items():
        found.wrong.append(f"{names[bot]}, chat {chat}: {copies} excuses stand in no row")
    return found
