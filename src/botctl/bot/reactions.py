"""Events from other bots: from the mailbox into the inbox, and from its lanes to the developer's callbacks.

An event is acknowledged when its inbox row is committed; `event:<id>` is the row's cause, so that one that is delivered
twice is handled once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from botctl.bot.cleaning import clean
from botctl.bot.health import Health
from botctl.bot.intake import Intake
from botctl.bus.events import Event, encode_event
from botctl.bus.mailbox import Mailbox
from botctl.bus.subscriptions import Subscription, is_pattern, matches, pattern_of
from botctl.storage.inbox import NewRow

_log = structlog.get_logger("botctl.bot.reactions")

Callback = Callable[[Event], Awaitable[None]]


class Reactions:
    """The callbacks, in the order they were registered."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[str, Callback]] = []

    def add(self, pattern: str, callback: Callback) -> None:
        """Raises ValueError for a pattern that can never match."""
        if not is_pattern(pattern):
            raise ValueError(f"{pattern!r} is no event type or pattern, such as order.placed or order.*")
        self._callbacks.append((pattern, callback))

    async def react(self, event: Event) -> None:
        """Call every callback whose pattern means the event."""
        for pattern, callback in self._callbacks:
            if matches(pattern, event.type):
                await callback(event)

    def unheard(self, subscriptions: Sequence[str | Subscription]) -> list[str]:
        """Patterns that wait for events the bot has not subscribed to."""
        heard = [pattern_of(entry) for entry in subscriptions]
        return [
            pattern
            for pattern, _ in self._callbacks
            if not any(pattern == known or matches(known, pattern.replace("*", "any")) for known in heard)
        ]


async def collect(mailbox: Mailbox, intake: Intake, health: Health) -> None:
    """Move the mailbox's entries into the inbox until cancelled."""
    while True:
        entries = await mailbox.read()
        if not entries:
            continue
        rows = [row_of(entry.event) for entry in entries if entry.event is not None]
        for entry in entries:
            if entry.event is None:
                _log.error("an entry of the mailbox can't be read", entry=entry.id, reason=entry.error)
        health.count("updates", len(await intake.store(rows)))
        await mailbox.ack([entry.id for entry in entries])


def row_of(event: Event) -> NewRow:
    """The inbox row of an event."""
    cleaned = Event(
        id=event.id,
        type=event.type,
        version=event.version,
        source=event.source,
        occurred_at=event.occurred_at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        data=clean(event.data),
    )
    return NewRow(
        cause=f"event:{event.id}",
        update_id=None,
        kind="event",
        lane=f"event:{event.type}",
        payload=encode_event(cleaned).decode(),
        trace_id=event.correlation_id or event.id[:16],
    )
