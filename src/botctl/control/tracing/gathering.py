"""What is stored of one message's way, read level by level: a cause, the events it led to, what bots made of them.

A tree has at most so many causes: an event that everybody reacts to, or a loop between bots, fills no memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage import tracing
from botctl.storage.traced import TracedAttempt, TracedCompletion, TracedEvent, TracedRequest, TracedRow, TracedSend

LEVELS = 8
CAUSES = 200
REPLAYED = 100
"""Events of a level for which replays are looked for, one by one."""

Place = tuple[int, str]
"""A cause in a bot: bot_id, cause."""


@dataclass
class Found:
    """What is stored of some causes. `cut`: there is more than was read."""

    rows: dict[Place, TracedRow] = field(default_factory=dict)
    attempts: dict[tuple[int, int], list[TracedAttempt]] = field(default_factory=dict)
    completions: dict[Place, list[TracedCompletion]] = field(default_factory=dict)
    sends: dict[Place, list[TracedSend]] = field(default_factory=dict)
    events: dict[Place, list[TracedEvent]] = field(default_factory=dict)
    requests: dict[Place, list[TracedRequest]] = field(default_factory=dict)
    deliveries: dict[str, list[Place]] = field(default_factory=dict)
    """By the id of an event or of a request."""
    before: dict[Place, tuple[str, int] | None] = field(default_factory=dict)
    cut: bool = False

    def knows(self, place: Place) -> bool:
        """Whether anything is stored of this cause."""
        return any(place in one for one in (self.rows, self.completions, self.sends, self.events, self.requests))


async def gather(
    connection: AsyncConnection, roots: Iterable[Place], bots: Collection[int], found: Found | None = None
) -> Found:
    """Read what these causes have led to, across all of `bots`."""
    found = found or Found()
    seen: set[Place] = set()
    level = list(dict.fromkeys(roots))
    for _ in range(LEVELS):
        level = [place for place in level if place not in seen]
        found.cut = found.cut or len(seen) + len(level) > CAUSES
        level = level[: CAUSES - len(seen)]
        if not level:
            return found
        seen.update(level)
        ids: list[str] = []
        for bot_id in dict.fromkeys(bot for bot, _ in level):
            ids += await _read(connection, found, bot_id, [cause for bot, cause in level if bot == bot_id])
        level = await deliveries(connection, found, ids, bots)
    found.cut = found.cut or any(place not in seen for place in level)
    return found


async def deliveries(
    connection: AsyncConnection, found: Found, event_ids: Iterable[str], bots: Collection[int]
) -> list[Place]:
    """Which bots have taken these events, or replays of them, into their inboxes."""
    wanted = {f"event:{event_id}": event_id for event_id in event_ids if event_id not in found.deliveries}
    if not wanted or not bots:
        return []
    rows = await tracing.rows_of_causes(connection, bots, list(wanted))
    for event_id in wanted.values():
        found.deliveries[event_id] = []
    for event_id in list(wanted.values())[:REPLAYED]:
        rows += await tracing.rows_of_replays(connection, bots, event_id)
    for row in sorted(rows, key=lambda one: one.received_at):
        found.deliveries[wanted[row.cause.partition("@")[0]]].append((row.bot_id, row.cause))
    return [(row.bot_id, row.cause) for row in rows]


async def _read(connection: AsyncConnection, found: Found, bot_id: int, causes: list[str]) -> list[str]:
    """All of one bot; the ids of the events it has published, and of its requests."""
    rows = await tracing.rows_of_causes(connection, [bot_id], causes)
    for row in rows:
        found.rows[bot_id, row.cause] = row
        if row.state == "new":
            found.before[bot_id, row.cause] = await tracing.waiting_before(connection, row)
    if rows:
        for attempt in await tracing.attempts_of(connection, bot_id, [row.inbox_id for row in rows]):
            found.attempts.setdefault((bot_id, attempt.inbox_id), []).append(attempt)
    for completion in await tracing.completions_of(connection, bot_id, causes):
        found.completions.setdefault((bot_id, completion.cause), []).append(completion)
    for send in await tracing.sends_of(connection, bot_id, causes):
        found.sends.setdefault((bot_id, send.cause), []).append(send)
    events = await tracing.events_caused(connection, bot_id, causes)
    for event in events:
        found.events.setdefault((bot_id, event.causation_id), []).append(event)
    requests = await tracing.requests_of(connection, bot_id, causes)
    for request in requests:
        found.requests.setdefault((bot_id, request.cause), []).append(request)
    return [*(event.event_id for event in events), *(request.request_id for request in requests)]
