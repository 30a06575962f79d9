"""What is kept of one cause, as it is read: rows of inbox, journal and outbox. Texts are as stored, sealed or clear.

Times are in seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TracedRow:
    """A row of an inbox. `begun_at`: of the attempt that is under way, or that ended well."""

    bot_id: int
    inbox_id: int
    cause: str
    kind: str
    lane: str
    state: str
    attempts: int
    received_at: float
    begun_at: float | None
    next_attempt_at: float | None
    done_at: float | None
    last_error: str | None
    trace_id: str
    payload: str


@dataclass(frozen=True, slots=True)
class TracedAttempt:
    """An attempt that did not end well, or what an operator did: see the table `attempts`."""

    inbox_id: int
    attempt: int
    outcome: str
    begun_at: float | None
    ended_at: float
    error: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True)
class TracedCompletion:
    """A recorded answer of a model; `created_at` is when it was there."""

    cause: str
    step: int
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    retries: int | None
    finish_reason: str
    duration_ms: int | None
    created_at: float
    response: str


@dataclass(frozen=True, slots=True)
class TracedSend:
    """A row of the send journal."""

    cause: str
    n: int
    mode: str
    method: str
    chat_id: int | None
    state: str
    attempts: int
    uncertain: int
    planned_at: float
    sent_at: float | None
    waits_until: float | None
    error: str | None
    trace_id: str
    payload: str
    result: str | None


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """What a bot has asked another one. `request_id` is the id of the event that is the request."""

    cause: str
    request_id: str
    target: str
    type: str
    state: str
    asked_at: float
    deadline: float
    answered_at: float | None
    error: str


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """A row of an outbox."""

    bot_id: int
    event_id: str
    type: str
    version: int
    occurred_at: float
    relayed_at: float | None
    correlation_id: str
    causation_id: str
    data: str
