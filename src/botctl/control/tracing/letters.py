"""What a dead letter is called, and what is told of it: those of the inboxes and those of the bus. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from botctl.bus.reading.dead_letters import DeadLetter
from botctl.control.tracing.contents import Opener
from botctl.control.tracing.views import DeadLetterView
from botctl.control.tracing.words import chat_of, own_error
from botctl.errors import BotctlError, UsageError
from botctl.storage.traced import TracedRow

BUS = "bus"
GONE = "`botctl dead-letters list` shows which there are."


def letter_view(row: TracedRow, names: Mapping[int, str], opener: Opener) -> DeadLetterView:
    """One of an inbox."""
    bot = names.get(row.bot_id, str(row.bot_id))
    error = opener.error("inbox", "last_error", own_error(row.last_error))
    unreadable = row.lane == "other" and error.startswith("can't be read")
    letter_id = f"{bot}/{row.inbox_id}"
    again = f"botctl dead-letters retry {letter_id}"
    return DeadLetterView(
        id=letter_id,
        bot=bot,
        bot_id=row.bot_id,
        cause=row.cause,
        kind=row.kind,
        lane=row.lane,
        chat_id=chat_of(row.lane),
        at=row.done_at if row.done_at is not None else row.received_at,
        received_at=row.received_at,
        attempts=row.attempts,
        error=error,
        trace_id=row.trace_id,
        state=row.state,
        can_retry=not unreadable,
        todo="No parser takes it; a retry would end likewise." if unreadable else f"When it is mended: {again}",
    )


def bus_letter_view(letter: DeadLetter, names: Mapping[int, str]) -> DeadLetterView:
    """One of the bus."""
    whose = names.get(letter.bot_id, str(letter.bot_id)) if letter.bot_id else ""
    letter_id = f"{BUS}/{letter.id}"
    return DeadLetterView(
        id=letter_id,
        bot=whose or letter.group or "fleet",
        bot_id=letter.bot_id,
        where="bus",
        cause=f"event:{letter.event_id}" if letter.event_id else "",
        kind=letter.type or "event",
        at=letter.at,
        attempts=letter.attempts,
        error=letter.reason,
        can_retry=letter.whole,
        todo=f"When it is mended: botctl dead-letters retry {letter_id}"
        if letter.whole
        else "It is kept in part only and can't be tried again.",
    )


def is_of_bus(letter_id: str) -> bool:
    """Ids of the bus's streams have a hyphen; there may be a bot called bus."""
    place, _, number = letter_id.rpartition("/")
    return place == BUS and "-" in number


def number_of(number: str, letter_id: str) -> int:
    """The number of a row. Raises UsageError."""
    if not number.isdecimal() or len(number) > 18:
        raise UsageError(f"{letter_id[:80]!r} is no id of a dead letter", hint=f"They look like nora/12. {GONE}")
    return int(number)


def only_one(rows: list[TracedRow], letter_id: str, names: Mapping[int, str], retried: str | None = None) -> TracedRow:
    """The one that was meant. Raises BotctlError for none, UsageError for several.

    `retried` is the state of one that was tried again, and so is none any more.
    """
    if not rows and retried is not None:
        raise BotctlError(f"dead letter {letter_id} {'is being' if retried == 'new' else 'has been'} handled again")
    if not rows:
        raise BotctlError(f"there is no dead letter {letter_id}", hint=GONE)
    if len(rows) > 1:
        whose = ", ".join(f"{names.get(row.bot_id, row.bot_id)}/{row.inbox_id}" for row in rows)
        raise UsageError(f"several bots have a dead letter {letter_id}: {whose}")
    return rows[0]
