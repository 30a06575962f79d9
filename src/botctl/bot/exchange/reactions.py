"""Events from other bots: from the mailbox into the inbox, and from its lanes to the developer's callbacks.

An event is acknowledged when its inbox row is committed; `event:<id>` is the row's cause, so that one that is delivered
twice is handled once. A replay on purpose has a cause of its own, `event:<id>@<replay>`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import suppress

import msgspec
import structlog

from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.turns import PARTY
from botctl.bot.sending.journal import NotRepeatedError
from botctl.bot.vitals.health import Health
from botctl.bus.event_types.subscriptions import Subscription, is_pattern, matches, pattern_of
from botctl.bus.events import MAX_EVENT_BYTES, Event, encode_event
from botctl.bus.reading.mailbox import Entry, Mailbox
from botctl.storage.cleaning import clean, clean_text, encode
from botctl.storage.inbox import NewRow

_log = structlog.get_logger("botctl.bot.exchange.reactions")

Callback = Callable[[Event], Awaitable[None]]


class Reactions:
    """The callbacks, in the order they were registered. `answer` is given requests."""

    def __init__(
        self, answer: Callable[[Event], Awaitable[None]], incoming: Callable[[Event], Event] = lambda event: event
    ) -> None:
        self._answer = answer
        self._incoming = incoming
        """Checks an event's data and brings them up to date."""
        self._callbacks: list[tuple[str, Callback]] = []

    def add(self, pattern: str, callback: Callback) -> None:
        """Raises ValueError for a pattern that can never match."""
        if not is_pattern(pattern):
            raise ValueError(f"{pattern!r} is no event type or pattern, such as order.placed or order.*")
        self._callbacks.append((pattern, callback))

    async def react(self, event: Event) -> None:
        """Call every callback whose pattern means the event, or the one that answers the request."""
        if event.is_request:
            await self._answer(event)
            return
        event = self._incoming(event)
        for pattern, callback in self._callbacks:
            if matches(pattern, event.type):
                with suppress(NotRepeatedError):  # the next one still has its turn
                    await callback(event)

    def unheard(self, subscriptions: Sequence[str | Subscription]) -> list[str]:
        """Patterns that wait for events the bot has not subscribed to."""
        heard = [pattern_of(entry) for entry in subscriptions]
        return [
            pattern
            for pattern, _ in self._callbacks
            if not any(pattern == known or matches(known, pattern.replace("*", "any")) for known in heard)
        ]


async def collect(
    mailbox: Mailbox,
    intake: Intake,
    health: Health,
    take_replies: Callable[[Sequence[Event]], Awaitable[None]],
    well: Callable[[], None],
) -> None:
    """Move the mailbox's entries into the inbox until cancelled; replies to requests go past it.

    `well` is called whenever all that was read is where it belongs. Raises what storing raises, but for what is waited
    out; what was read then is to be left, and comes again.
    """
    while True:
        entries = await mailbox.read()
        if not entries:
            well()
            continue
        if replies := [entry.event for entry in entries if entry.event is not None and entry.event.reply_to]:
            await take_replies(replies)
        rows = rows_of([entry for entry in entries if entry.event is None or not entry.event.reply_to])
        count_stored(rows, await intake.store(rows), health)
        await mailbox.ack([entry.id for entry in entries])
        well()


def rows_of(entries: Sequence[Entry]) -> list[NewRow]:
    """The inbox rows of deliveries; what can't be read becomes a dead letter with its text, if any is left of it."""
    rows = []
    for entry in entries:
        if entry.event is not None:
            rows.append(row_of(entry.event))
            continue
        _log.error("what was delivered can't be read", entry=entry.id, reason=entry.error)
        if entry.body:
            rows.append(_unreadable(entry))
    return rows


def count_stored(rows: Sequence[NewRow], stored: Container[str], health: Health) -> None:
    """Count the rows that were new; `stored` are their causes."""
    new = [row for row in rows if row.cause in stored]
    health.count("updates", len(new))
    health.count("dead_letters", sum(row.dead is not None for row in new))


def _unreadable(entry: Entry) -> NewRow:
    digest = hashlib.sha256(entry.body).hexdigest()[:16]
    return NewRow(
        cause=f"event:unread-{digest}",
        update_id=None,
        kind="event",
        lane="other",
        payload=encode({"raw": clean_text(entry.body[:MAX_EVENT_BYTES].decode("utf-8", "replace"))}),
        trace_id=digest,
        dead=f"can't be read: {entry.error}",
    )


def row_of(event: Event) -> NewRow:
    """The inbox row of an event. Those of one publisher are in one lane, so in order, whatever their types.

    Each request has a lane of its own, so that bots that ask each other never block; those of one asker share turns.
    """
    cleaned = msgspec.structs.replace(event, data=clean(event.data))
    return NewRow(
        cause=event.cause,
        update_id=None,
        kind="event",
        lane=f"request:{event.source}{PARTY}{event.id}" if event.is_request else f"event:{event.source}",
        payload=encode_event(cleaned).decode(),
        trace_id=event.correlation_id or event.id[-16:],
    )
