"""One message's way as a tree: what is told of what was found. Pure: texts come from openers, the time is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from botctl.control.ports import FleetSight
from botctl.control.prices import Prices
from botctl.control.tracing.contents import SEALED, Opener, answer_content, event_note, send_content, update_content
from botctl.control.tracing.gathering import CAUSES, Found, Place
from botctl.control.tracing.masking import is_refusal
from botctl.control.tracing.views import (
    AttemptView,
    CompletionView,
    EventView,
    HandlingView,
    RequestView,
    SendView,
    TraceBody,
)
from botctl.control.tracing.words import UNKNOWN, Standing, chat_of, own_error, why_it_waits
from botctl.storage.traced import TracedAttempt, TracedCompletion, TracedEvent, TracedRequest, TracedRow, TracedSend


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
        view.requests = [self._request(one, opener) for one in self._found.requests.get(place, [])]
        return view

    def has_told(self, place: Place) -> bool:
        """Whether it stands in what was told so far."""
        return place in self._told

    def event(self, event: TracedEvent) -> EventView:
        """An event, and what bots have made of it."""
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
            deliveries=self._taken(event.event_id),
        )

    def _taken(self, event_id: str) -> list[HandlingView]:
        places = [place for place in self._found.deliveries.get(event_id, []) if place in self._found.rows]
        return [self.handling(place) for place in places if place not in self._told]

    def _request(self, one: TracedRequest, opener: Opener) -> RequestView:
        return RequestView(
            id=one.request_id,
            target=one.target,
            type=one.type,
            state=one.state,
            asked_at=one.asked_at,
            deadline=one.deadline,
            answered_at=one.answered_at,
            error=opener.error("requests", "error", one.error),
            deliveries=self._taken(one.request_id),
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
