"""What happened to one message, moment by moment: each a time and words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botctl.cli.lines import BAD, FAINT, GOOD, PLAIN, WAITS, brief_span, clock
from botctl.cli.words import printable, times

if TYPE_CHECKING:
    from botctl.control.tracing.views import (
        AttemptView,
        CompletionView,
        ContentView,
        EventView,
        HandlingView,
        RequestView,
        SendView,
    )

FAILED = {True: "refused by Telegram", False: "given up, and never sent", None: "refused by Telegram, or given up"}
"""How a failed send is told, by whether it was refused."""


@dataclass(frozen=True)
class Point:
    """A moment. `said`: a text that stands below; `order`: among those of the same time."""

    at: float
    text: str
    style: str = PLAIN
    said: str | None = None
    order: int = 0


def points(one: HandlingView, now: float) -> Iterator[Point]:
    """All moments of one cause in one bot, in no order."""
    if one.written_at is not None and one.kind != "event":
        yield Point(one.written_at, "written, by Telegram's clock, in whole seconds", FAINT, order=-9)
    if one.received_at is not None:
        whence = "the event is taken from the mailbox" if one.kind == "event" else "received and stored"
        yield Point(one.received_at, whence, order=-8)
    yield from _attempts(one, now)
    for completion in one.completions:
        yield _completion(completion)
    for send in one.sends:
        yield from _send(send, now)
    for event in one.events:
        yield _event(event)
    for request in one.requests:
        yield _request(request)


def _attempts(one: HandlingView, now: float) -> Iterator[Point]:
    counted = [attempt for attempt in one.history if attempt.begun_at is not None]
    first = min([at for at in (*(a.begun_at for a in counted), one.begun_at) if at is not None], default=None)
    several = len(one.history) > 0
    queued = f" after {brief_span(first - one.received_at)} in the queue" if first and one.received_at else ""
    for attempt in one.history:
        if attempt.begun_at is not None:
            waited = queued if attempt.begun_at == first else ""
            yield Point(attempt.begun_at, f"attempt {attempt.attempt} begins{waited}", order=1)
        yield _end_of(attempt)
    last = one.attempts + (1 if one.state == "new" and one.next_attempt_at is not None else 0)
    if one.begun_at is not None:
        which = f"attempt {max(last, 1)}" if several else "handling"
        yield Point(one.begun_at, f"{which} begins{queued if one.begun_at == first else ''}", order=1)
    if one.state == "done" and one.ended_at is not None:
        yield Point(one.ended_at, "done, and committed", GOOD, order=5)
    elif one.state == "dead" and one.ended_at is not None and not any(a.outcome == "given up" for a in one.history):
        yield Point(one.ended_at, f"given up at once: {printable(one.error)}", BAD, order=5)
    elif one.state == "new":
        yield Point(now, f"now: {printable(one.waits)}", WAITS, order=99)


def _end_of(attempt: AttemptView) -> Point:
    error = printable(" ".join(attempt.error.split()))
    match attempt.outcome:
        case "failed":
            words, style = f"attempt {attempt.attempt} failed: {error}", BAD
        case "waited":
            words, style = f"attempt {attempt.attempt} is put off, and not counted: {error}", WAITS
        case "interrupted":
            words, style = f"attempt {attempt.attempt} was interrupted; found at this time: {error}", WAITS
        case "given up":
            tries = "1 attempt" if attempt.attempt == 1 else f"{attempt.attempt} attempts"
            words, style = f"given up after {tries}: {error}", BAD
            if attempt.attempt < 1:
                words = f"given up: {error}"
        case "retried":
            words, style = f"to be tried again, {error}", WAITS
        case "dropped":
            words, style = f"dropped {error}", FAINT
        case other:
            words, style = f"{other}: {error}", PLAIN
    return Point(attempt.ended_at, words, style, order=2)


def _completion(one: CompletionView) -> Point:
    took = f" in {brief_span(one.duration_ms / 1000)}" if one.duration_ms is not None else ""
    facts = []
    if one.input_tokens is not None:
        cached = f" ({one.cached_tokens} cached)" if one.cached_tokens else ""
        facts.append(f"{one.input_tokens} tokens in{cached}, {one.output_tokens or 0} out")
    facts += [f"cost {money(one.cost)}"] if one.cost is not None else []
    facts += [f"{one.retries} {'retry' if one.retries == 1 else 'retries'}"] if one.retries else []
    facts += [f"ended by {one.finish_reason}"] if one.finish_reason not in ("", "stop", "completed") else []
    facts += ["used again by a later attempt"] if one.reused else []
    facts += [length_words(one.content)] if length_words(one.content) else []
    words = f"{one.model} answered{took}: {', '.join(facts)}" if facts else f"{one.model} answered{took}"
    return Point(one.ended_at, printable(words), PLAIN, said(one.content), order=3)


def _send(one: SendView, now: float) -> Iterator[Point]:
    where = f" to chat {one.chat_id}" if one.chat_id is not None else ""
    length = f", {length_words(one.content)}" if length_words(one.content) else ""
    unsure = f"; outcome unknown {times(one.uncertain)}" if one.uncertain else ""
    calls = f", {one.attempts} calls" if one.attempts > 1 else ""
    asked = one.waits_until if one.state == "planned" and (one.waits_until or 0) > now else None
    error = f": {printable(one.error)}" if one.error else ""
    style = WAITS if one.uncertain else PLAIN
    if one.state == "sent" and one.sent_at is not None:
        took = f" in {brief_span(one.sent_at - one.planned_at)}" if one.sent_at > one.planned_at else ""
        words = f"{one.method}{where}{length}: sent{took}{calls}{unsure}"
        yield Point(one.sent_at, words, style, said(one.content), one.n + 10)
        return
    words, style = {
        "planned": (
            f"Telegram has asked to wait until {clock(asked)[:8]}" if asked else "planned, and not sent yet",
            WAITS,
        ),
        "sending": ("the call is under way, or its outcome is unknown", WAITS),
        "failed": (FAILED[one.refused], BAD),
        "skipped": ("may have arrived, and is not sent again", WAITS),
    }.get(one.state, (one.state, PLAIN))
    yield Point(
        one.planned_at,
        f"{one.method}{where}{length}: {words}{calls}{unsure}{error}",
        style,
        said(one.content),
        10 + one.n,
    )


def _event(one: EventView) -> Point:
    relayed = (
        f", relayed {brief_span(one.relayed_at - one.occurred_at)} later" if one.relayed_at else ", not relayed yet"
    )
    taken = [delivery.bot for delivery in one.deliveries]
    to = f", taken by {', '.join(taken)}" if taken else ""
    note = f": {one.note}" if one.note else ""
    style = BAD if one.note else FAINT
    return Point(one.occurred_at, printable(f"event {one.type}{note}{relayed}{to}"), style, order=4)


def _request(one: RequestView) -> Point:
    took = f" after {brief_span(one.answered_at - one.asked_at)}" if one.answered_at is not None else ""
    words, style = {
        "waiting": (f"no answer yet, waits until {clock(one.deadline)[:8]}", WAITS),
        "answered": (f"answered{took}", FAINT),
        "refused": (f"refused{took}", BAD),
        "expired": ("no answer in time", BAD),
        "void": ("without an answer; the next attempt asks anew", WAITS),
    }.get(one.state, (one.state, PLAIN))
    error = f": {one.error}" if one.error else ""
    return Point(one.asked_at, printable(f"asks {one.target} for {one.type}: {words}{error}"), style, order=4)


def said(content: ContentView) -> str | None:
    """The text, or why it can't be opened; None without one."""
    if content.fault:
        return f"({content.fault})"
    return content.text


def length_words(content: ContentView) -> str:
    """`5 characters`, `sealed`, or nothing."""
    if content.length is not None:
        return f"{content.length} character{'' if content.length == 1 else 's'}"
    return "sealed" if content.sealed else ""


def money(amount: float) -> str:
    """As many digits as tell something: `0.0012`, `1.25`."""
    if amount >= 0.1 or amount == 0:
        return f"{amount:.2f}"
    return f"{amount:.6f}".rstrip("0").rstrip(".") if amount >= 1e-6 else "<0.000001"
