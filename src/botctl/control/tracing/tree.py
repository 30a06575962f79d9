"""One message's way as a tree: what is stored of causes, read level by level, and what is told of it.

Reading and telling are apart: `gather` asks the database, `Teller` is pure. A tree has at most so many causes: an event
that everybody reacts to, or a loop between bots, fills no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.control.ports import FleetSight
from botctl.control.prices import Prices
from botctl.control.tracing.contents import SEALED, Opener, answer_content, event_note, send_content, update_content
from botctl.control.tracing.masking import is_refusal
from botctl.control.tracing.views import AttemptView, CompletionView, EventView, HandlingView, SendView, TraceBody
from botctl.control.tracing.words import UNKNOWN, Standing, chat_of, own_error, why_it_waits
from botctl.storage import tracing
from botctl.storage.tracing import TracedAttempt, TracedCompletion, TracedEvent, TracedRow, TracedSend

LEVELS = 8
CAUSES = 200

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
    deliveries: dict[str, list[Place]] = field(default_factory=dict)
    """By event_id."""
    before: dict[Place, tuple[str, int] | None] = field(default_factory=dict)
    cut: bool = False

    def knows(self, place: Place) -> bool:
        """Whether anything is stored of this cause."""
        return any(place in one for one in (self.rows, self.completions, self.sends, self.events))


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
    """Which bots have taken these events into their inboxes."""
    wanted = {f"event:{event_id}": event_id for event_id in event_ids if event_id not in found.deliveries}
    if not wanted or not bots:
        return []
    rows = await tracing.rows_of_causes(connection, bots, list(wanted))
    for event_id in wanted.values():
        found.deliveries[event_id] = []
    for row in sorted(rows, key=lambda one: one.received_at):
        found.deliveries[wanted[row.cause]].append((row.bot_id, row.cause))
    return [(row.bot_id, row.cause) for row in rows]


async def _read(connection: AsyncConnection, found: Found, bot_id: int, causes: list[str]) -> list[str]:
    """All of one bot; the ids of the events it has published."""
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
    return [event.event_id for event in events]


class Teller:
    """Tells of what was found. `opener` gives the one of a bot; `sight` is None when the supervisor doesn't answer."""

    def __init__(
        self,
        found: Found,
        names: Mapping[int, str],
        prices: Prices,
        opener: Callable[[int], Opener],
        sight: FleetSight | None,
        now: float,
    ) -> None:
        self._found = found
        self._names = names
        self._prices = prices
        self._opener = opener
        self._sight = sight
        self._now = now
        self._told: set[Place] = set()
        self._spent = 0.0
        self._priced = False
        self._unpriced: set[str] = set()
        self._tokens = [0, 0]

    def sum_up(self, body: TraceBody) -> None:
        """Put tokens and cost of all that was told into the body."""
        body.input_tokens, body.output_tokens = self._tokens
        body.cost = self._spent if self._priced else None
        body.currency = self._prices.currency if self._priced else ""
        body.unpriced = sorted(self._unpriced)
        if self._found.cut:
            body.notes.append(f"there is more: only the first {CAUSES} causes are told of")

    def handling(self, place: Place) -> HandlingView:
        """One cause in one bot, and below it whatever it has led to that was not told yet."""
        bot_id, cause = place
        self._told.add(place)
        opener, row = self._opener(bot_id), self._found.rows.get(place)
        view = HandlingView(bot=self._name(bot_id), bot_id=bot_id, cause=cause)
        attempts: list[TracedAttempt] = []
        if row is not None:
            attempts = self._found.attempts.get((bot_id, row.inbox_id), [])
            view = self._of_row(view, row, opener)
        view.history = [attempt_view(one, opener) for one in attempts]
        begins = [one.begun_at for one in attempts if one.begun_at is not None]
        begins += [view.begun_at] if view.begun_at is not None else []
        view.completions = [self._completion(one, begins, opener) for one in self._found.completions.get(place, [])]
        sends = self._found.sends.get(place, [])
        view.sends = [send_view(one, opener) for one in sends]
        view.trace_id = view.trace_id or next((one.trace_id for one in sends if one.trace_id), "")
        view.events = [self.event(one) for one in self._found.events.get(place, [])]
        return view

    def event(self, event: TracedEvent) -> EventView:
        """An event, and what bots have made of it."""
        places = [place for place in self._found.deliveries.get(event.event_id, []) if place in self._found.rows]
        return EventView(
            id=event.event_id,
            type=event.type,
            version=event.version,
            bot=self._name(event.bot_id),
            bot_id=event.bot_id,
            occurred_at=event.occurred_at,
            relayed_at=event.relayed_at,
            causation_id=event.causation_id,
            correlation_id=event.correlation_id,
            note=event_note(self._opener(event.bot_id), event.type, event.data),
            deliveries=[self.handling(place) for place in places if place not in self._told],
        )

    def _of_row(self, view: HandlingView, row: TracedRow, opener: Opener) -> HandlingView:
        content, written = update_content(opener, row.kind, row.payload)
        told = view.model_copy(
            update={
                "kind": row.kind,
                "lane": row.lane,
                "chat_id": chat_of(row.lane),
                "inbox_id": row.inbox_id,
                "trace_id": row.trace_id,
                "state": row.state,
                "attempts": row.attempts,
                "written_at": written,
                "received_at": row.received_at,
                "begun_at": row.begun_at,
                "next_attempt_at": row.next_attempt_at,
                "ended_at": row.done_at,
                "error": opener.error("inbox", "last_error", own_error(row.last_error)),
                "content": content,
            }
        )
        if row.state == "new":
            told.waits = why_it_waits(self._standing(row, told.error), self._now)
        return told

    def _standing(self, row: TracedRow, error: str) -> Standing:
        state: str | None = UNKNOWN
        reason = ""
        if self._sight is not None:
            bot = self._sight.bot(row.bot_id)
            state, reason = (bot.state, bot.reason) if bot is not None else (None, "")
        return Standing(
            attempts=row.attempts,
            begun_at=row.begun_at,
            next_attempt_at=row.next_attempt_at,
            error=error,
            before=self._found.before.get((row.bot_id, row.cause)),
            bot_state=state,
            bot_reason=reason,
        )

    def _completion(self, one: TracedCompletion, begins: list[float], opener: Opener) -> CompletionView:
        self._tokens[0] += one.input_tokens or 0
        self._tokens[1] += one.output_tokens or 0
        cost = self._prices.cost(one.model, one.input_tokens, one.output_tokens, one.cached_tokens)
        if cost is not None:
            self._priced, self._spent = True, self._spent + cost
        elif one.input_tokens is not None and self._prices.find(one.model) is None:
            self._unpriced.add(one.model)
        return CompletionView(
            step=one.step,
            model=one.model,
            begun_at=one.created_at - (one.duration_ms or 0) / 1000,
            ended_at=one.created_at,
            duration_ms=one.duration_ms,
            input_tokens=one.input_tokens,
            output_tokens=one.output_tokens,
            cached_tokens=one.cached_tokens,
            retries=one.retries,
            finish_reason=one.finish_reason,
            cost=cost,
            reused=any(begun > one.created_at for begun in begins),
            content=answer_content(opener, one.response),
        )

    def _name(self, bot_id: int) -> str:
        return "fleet" if bot_id == 0 else self._names.get(bot_id, str(bot_id))


def attempt_view(one: TracedAttempt, opener: Opener) -> AttemptView:
    """An attempt, without its traceback: that is for a dead letter."""
    return AttemptView(
        attempt=one.attempt,
        outcome=one.outcome,
        begun_at=one.begun_at,
        ended_at=one.ended_at,
        error=opener.error("attempts", "error", one.error),
    )


def send_view(one: TracedSend, opener: Opener) -> SendView:
    """A row of the journal."""
    content, message_id = send_content(opener, one.payload, one.result)
    error = opener.error("sends", "error", one.error)
    refused: bool | None = None
    if one.state == "failed":
        refused = False if one.attempts == 0 else None if error == SEALED else is_refusal(error)
    return SendView(
        n=one.n,
        mode=one.mode,
        method=one.method,
        chat_id=one.chat_id,
        state=one.state,
        attempts=one.attempts,
        uncertain=one.uncertain,
        planned_at=one.planned_at,
        sent_at=one.sent_at,
        waits_until=one.waits_until,
        refused=refused,
        error=error,
        telegram_message_id=message_id,
        content=content,
    )
