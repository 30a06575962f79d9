"""What the API tells of one message's way, and of dead letters. The keys are documented in docs/delivery.md and stay.

Times are in seconds since the epoch, null where nobody knows. Texts are null unless they were asked for; lengths are in
characters, null where what is stored is sealed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from botctl.control.views import View


class ContentView(View):
    """What a message, an answer or a send says. `sealed`: it is stored encrypted; `fault`: why it can't be opened."""

    type: str = ""
    length: int | None = None
    text: str | None = None
    sealed: bool = False
    fault: str = ""


class AttemptView(View):
    """An attempt that didn't end well: `failed`, `waited`, `interrupted`, `given up`; or `retried`, `dropped` by an
    operator. The end of an interrupted one is when that was found."""

    attempt: int
    outcome: str
    begun_at: float | None = None
    ended_at: float
    error: str = ""
    traceback: str | None = None


class CompletionView(View):
    """A model's answer. `cost` is null without a price; `reused`: a later attempt took it and asked nothing."""

    step: int
    model: str
    begun_at: float
    ended_at: float
    duration_ms: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    retries: int | None = None
    finish_reason: str = ""
    cost: float | None = None
    reused: bool = False
    content: ContentView = Field(default_factory=ContentView)


class SendView(View):
    """A call of Telegram's that shows. `state`: planned, sending, sent, failed, skipped; `uncertain`: how often nobody
    knew whether Telegram had it; `waits_until`: when Telegram lets it be sent, after a 429; `refused`: of a failed one,
    whether Telegram refused it or it was never made, null where that is sealed."""

    n: int
    mode: str
    method: str
    chat_id: int | None = None
    state: str
    attempts: int = 0
    uncertain: int = 0
    planned_at: float
    sent_at: float | None = None
    waits_until: float | None = None
    refused: bool | None = None
    error: str = ""
    telegram_message_id: int | None = None
    content: ContentView = Field(default_factory=ContentView)


class EventView(View):
    """An event that was published; `deliveries` are what bots have made of it, in the order of their arrival.

    `note` says in words what its data tell of a failure."""

    id: str
    type: str
    version: int = 1
    bot: str
    bot_id: int
    occurred_at: float
    relayed_at: float | None = None
    causation_id: str = ""
    correlation_id: str = ""
    note: str = ""
    deliveries: list[HandlingView] = Field(default_factory=list)


class RequestView(View):
    """What a bot has asked another one. `state`: waiting, answered, refused, expired, void (it is asked anew)."""

    id: str
    target: str
    type: str
    state: str
    asked_at: float
    deadline: float
    answered_at: float | None = None
    error: str = ""
    deliveries: list[HandlingView] = Field(default_factory=list)


class HandlingView(View):
    """One cause in one bot, with all it has led to.

    `state`: new, done, dead, dropped; `stored` when the cause has no row of the inbox, as a timer of a handler.
    `waits` says in words why it hasn't ended.
    """

    bot: str
    bot_id: int
    cause: str
    kind: str = ""
    lane: str = ""
    chat_id: int | None = None
    inbox_id: int | None = None
    trace_id: str = ""
    state: Literal["new", "done", "dead", "dropped", "stored"] = "stored"
    attempts: int = 0
    written_at: float | None = None
    received_at: float | None = None
    begun_at: float | None = None
    next_attempt_at: float | None = None
    ended_at: float | None = None
    error: str = ""
    waits: str = ""
    content: ContentView = Field(default_factory=ContentView)
    history: list[AttemptView] = Field(default_factory=list)
    completions: list[CompletionView] = Field(default_factory=list)
    sends: list[SendView] = Field(default_factory=list)
    events: list[EventView] = Field(default_factory=list)
    requests: list[RequestView] = Field(default_factory=list)


class TraceBody(View):
    """Answer of `GET /v1/trace`. `roots` are the causes it began with; `event` is the one that was asked for.

    `cost` is the sum of what is known, null when nothing is; `unpriced` are models without a price.
    """

    asked: str
    now: float
    trace_id: str = ""
    roots: list[HandlingView] = Field(default_factory=list)
    event: EventView | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    currency: str = ""
    unpriced: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class ChatLineView(View):
    """One message of a chat, in a line."""

    bot: str
    cause: str
    kind: str
    state: str
    trace_id: str
    received_at: float
    ended_at: float | None = None
    attempts: int = 0
    sends: int = 0
    tokens: int = 0
    error: str = ""
    content: ContentView = Field(default_factory=ContentView)


class ChatBody(View):
    """Answer of `GET /v1/trace/chat`, the newest first."""

    bot: str
    chat_id: int
    now: float
    messages: list[ChatLineView] = Field(default_factory=list)


class DeadLetterView(View):
    """What was given up. `id` is what other commands take: `<bot>/<number>`, or `bus/<id>` for what the bus refused.

    `at` is when it was given up; `error` why. `can_retry` False: `todo` says why not.
    """

    id: str
    bot: str
    bot_id: int | None = None
    where: Literal["inbox", "bus"] = "inbox"
    cause: str = ""
    kind: str = ""
    lane: str = ""
    chat_id: int | None = None
    at: float
    received_at: float | None = None
    attempts: int = 0
    error: str = ""
    trace_id: str = ""
    state: str = "dead"
    can_retry: bool = True
    todo: str = ""


class DeadLettersBody(View):
    """Answer of `GET /v1/dead-letters`, the newest first. `waiting` counts all there are, by bot."""

    letters: list[DeadLetterView] = Field(default_factory=list)
    waiting: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class DeadLetterBody(View):
    """Answer of `GET /v1/dead-letters/one`: `payload` is masked unless text was asked for."""

    letter: DeadLetterView
    content: ContentView = Field(default_factory=ContentView)
    payload: str = ""
    history: list[AttemptView] = Field(default_factory=list)
    sends: list[SendView] = Field(default_factory=list)


class DeadLettersDone(View):
    """Answer of retrying or dropping: what was done, and of the others why not, by id."""

    done: list[str] = Field(default_factory=list)
    left: dict[str, str] = Field(default_factory=dict)


EventView.model_rebuild()
RequestView.model_rebuild()
