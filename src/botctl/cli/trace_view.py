"""One message's way as a terminal shows it: lines of styled text. Pure: the body, the width and the time are arguments.

A line begins with a time and with how long after the first one it was. What other bots made of an event stands behind
all of its own cause, a step further in. Strangers' words come without what would move the cursor.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from botctl.cli.words import local_time, printable, times

if TYPE_CHECKING:
    from botctl.control.tracing.views import (
        AttemptView,
        ChatBody,
        CompletionView,
        ContentView,
        EventView,
        HandlingView,
        RequestView,
        SendView,
        TraceBody,
    )

HEAD, GOOD, BAD, WAITS, FAINT, PLAIN, SAID = "bold", "green", "red", "yellow", "dim", "", "italic"

Line = list[tuple[str, str]]
"""Parts of a line: text and style."""

FAILED = {True: "refused by Telegram", False: "given up, and never sent", None: "refused by Telegram, or given up"}
"""How a failed send is told, by whether it was refused."""

_TIME, _AFTER = 12, 9
"""Columns of a time and of what follows it."""

_NARROWEST = 30


@dataclass(frozen=True)
class _Point:
    at: float
    text: str
    style: str = PLAIN
    said: str | None = None
    order: int = 0


def trace_lines(body: TraceBody, width: int) -> list[Line]:
    """All of a trace, no wider than `width`."""
    lines: list[Line] = []
    begun = _begin(body)
    if body.event is not None:
        lines += _event_alone(body.event, begun, width)
    for root in body.roots:
        lines += ([[]] if lines else []) + _block(root, begun, width, body.now, 0)
    if tail := list(_sums(body)):
        lines += [[], *([(line, FAINT)] for text in tail for line in _wrapped(text, width))]
    return lines


def chat_lines(body: ChatBody, width: int) -> list[Line]:
    """The messages of a chat, a line each and its text, if it was asked for, below; the newest last."""
    lines: list[Line] = []
    for one in reversed(body.messages):
        state, style = _STATES.get(one.state, (one.state, PLAIN))
        took = f" in {_span(one.ended_at - one.received_at)}" if one.state == "done" and one.ended_at else ""
        facts = [f"{state}{took}", _content(one.content, one.kind)]
        facts += [f"{one.attempts} attempts"] if one.attempts > 1 else []
        facts += [f"{one.sends} sent"] if one.sends else []
        facts += [f"{one.tokens} tokens"] if one.tokens else []
        facts += [one.error] if one.error and one.state != "done" else []
        cause = printable(one.cause)
        named = cause.removeprefix("update:")
        at = f"{short_time(one.received_at, body.now)}  "
        head = f"{named:<10}  "
        rest = _cut("; ".join(printable(fact) for fact in facts), max(_NARROWEST, width - len(at) - len(head)))
        lines.append([(at, FAINT), (head, HEAD), (rest, style)])
        lines += _quoted(one.content, len(at), width)
    return lines


_STATES = {
    "done": ("done", GOOD),
    "dead": ("dead letter", BAD),
    "dropped": ("dropped", FAINT),
    "new": ("not done yet", WAITS),
    "stored": ("outside of an update", PLAIN),
}


def _begin(body: TraceBody) -> float:
    at = [one for root in body.roots for one in (root.received_at, *(send.planned_at for send in root.sends)) if one]
    at += [event.occurred_at for root in body.roots for event in root.events]
    if body.event is not None:
        at.append(body.event.occurred_at)
    return min(at, default=body.now)


def _block(one: HandlingView, begun: float, width: int, now: float, depth: int) -> list[Line]:
    indent = 2 * depth
    lines = _title(one, width, indent)
    points = sorted(_points(one, now), key=lambda point: (point.at, point.order))
    for point in points:
        lines += _at(point, begun, width, indent)
    for taken in (*(event.deliveries for event in one.events), *(request.deliveries for request in one.requests)):
        for delivery in taken:
            lines += [[], *_block(delivery, begun, width, now, depth + 1)]
    return lines


def _title(one: HandlingView, width: int, indent: int) -> list[Line]:
    state, style = _STATES[one.state]
    if one.state == "done" and one.ended_at is not None and one.received_at is not None:
        state = f"done in {_span(one.ended_at - one.received_at)}"
    where = f"chat {one.chat_id}" if one.chat_id is not None else one.lane
    arrow = "→ " if indent else ""
    facts = [f"{arrow}{one.bot}", one.cause.replace("update:", "update "), where if one.kind != "event" else ""]
    facts += [f"trace {one.trace_id}"] if one.trace_id and not indent else []
    title = " · ".join(printable(fact) for fact in facts if fact)
    lines: list[Line] = [[(" " * indent + line, HEAD)] for line in _wrapped(title, width - indent)]
    what = "" if one.kind == "event" else _content(one.content, one.kind)
    day = f" · {local_time(one.received_at)[:10]}" if one.received_at is not None and not indent else ""
    lines.append([(" " * indent, PLAIN), (state, style), (f" · {what}" if what else "", FAINT), (day, FAINT)])
    lines += _quoted(one.content, indent, width)
    return lines


def _points(one: HandlingView, now: float) -> Iterator[_Point]:
    if one.written_at is not None and one.kind != "event":
        yield _Point(one.written_at, "written, by Telegram's clock, in whole seconds", FAINT, order=-9)
    if one.received_at is not None:
        whence = "the event is taken from the mailbox" if one.kind == "event" else "received and stored"
        yield _Point(one.received_at, whence, order=-8)
    yield from _attempts(one, now)
    for completion in one.completions:
        yield _completion(completion)
    for send in one.sends:
        yield from _send(send, now)
    for event in one.events:
        yield _event(event)
    for request in one.requests:
        yield _request(request)


def _attempts(one: HandlingView, now: float) -> Iterator[_Point]:
    counted = [attempt for attempt in one.history if attempt.begun_at is not None]
    first = min([at for at in (*(a.begun_at for a in counted), one.begun_at) if at is not None], default=None)
    several = len(one.history) > 0
    queued = f" after {_span(first - one.received_at)} in the queue" if first and one.received_at else ""
    for attempt in one.history:
        if attempt.begun_at is not None:
            waited = queued if attempt.begun_at == first else ""
            yield _Point(attempt.begun_at, f"attempt {attempt.attempt} begins{waited}", order=1)
        yield _end_of(attempt)
    last = one.attempts + (1 if one.state == "new" and one.next_attempt_at is not None else 0)
    if one.begun_at is not None:
        which = f"attempt {max(last, 1)}" if several else "handling"
        yield _Point(one.begun_at, f"{which} begins{queued if one.begun_at == first else ''}", order=1)
    if one.state == "done" and one.ended_at is not None:
        yield _Point(one.ended_at, "done, and committed", GOOD, order=5)
    elif one.state == "dead" and one.ended_at is not None and not any(a.outcome == "given up" for a in one.history):
        yield _Point(one.ended_at, f"given up at once: {printable(one.error)}", BAD, order=5)
    elif one.state == "new":
        yield _Point(now, f"now: {printable(one.waits)}", WAITS, order=99)


def _end_of(attempt: AttemptView) -> _Point:
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
    return _Point(attempt.ended_at, words, style, order=2)


def _completion(one: CompletionView) -> _Point:
    took = f" in {_span(one.duration_ms / 1000)}" if one.duration_ms is not None else ""
    facts = []
    if one.input_tokens is not None:
        cached = f" ({one.cached_tokens} cached)" if one.cached_tokens else ""
        facts.append(f"{one.input_tokens} tokens in{cached}, {one.output_tokens or 0} out")
    facts += [f"cost {money(one.cost)}"] if one.cost is not None else []
    facts += [f"{one.retries} {'retry' if one.retries == 1 else 'retries'}"] if one.retries else []
    facts += [f"ended by {one.finish_reason}"] if one.finish_reason not in ("", "stop", "completed") else []
    facts += ["used again by a later attempt"] if one.reused else []
    facts += [_length(one.content)] if _length(one.content) else []
    words = f"{one.model} answered{took}: {', '.join(facts)}" if facts else f"{one.model} answered{took}"
    return _Point(one.ended_at, printable(words), PLAIN, _said(one.content), order=3)


def _send(one: SendView, now: float) -> Iterator[_Point]:
    where = f" to chat {one.chat_id}" if one.chat_id is not None else ""
    length = f", {_length(one.content)}" if _length(one.content) else ""
    unsure = f"; outcome unknown {times(one.uncertain)}" if one.uncertain else ""
    calls = f", {one.attempts} calls" if one.attempts > 1 else ""
    asked = one.waits_until if one.state == "planned" and (one.waits_until or 0) > now else None
    error = f": {printable(one.error)}" if one.error else ""
    style = WAITS if one.uncertain else PLAIN
    if one.state == "sent" and one.sent_at is not None:
        took = f" in {_span(one.sent_at - one.planned_at)}" if one.sent_at > one.planned_at else ""
        words = f"{one.method}{where}{length}: sent{took}{calls}{unsure}"
        yield _Point(one.sent_at, words, style, _said(one.content), one.n + 10)
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
    yield _Point(
        one.planned_at,
        f"{one.method}{where}{length}: {words}{calls}{unsure}{error}",
        style,
        _said(one.content),
        10 + one.n,
    )


def _event(one: EventView) -> _Point:
    relayed = f", relayed {_span(one.relayed_at - one.occurred_at)} later" if one.relayed_at else ", not relayed yet"
    taken = [delivery.bot for delivery in one.deliveries]
    to = f", taken by {', '.join(taken)}" if taken else ""
    note = f": {one.note}" if one.note else ""
    style = BAD if one.note else FAINT
    return _Point(one.occurred_at, printable(f"event {one.type}{note}{relayed}{to}"), style, order=4)


def _request(one: RequestView) -> _Point:
    took = f" after {_span(one.answered_at - one.asked_at)}" if one.answered_at is not None else ""
    words, style = {
        "waiting": (f"no answer yet, waits until {clock(one.deadline)[:8]}", WAITS),
        "answered": (f"answered{took}", FAINT),
        "refused": (f"refused{took}", BAD),
        "expired": ("no answer in time", BAD),
        "void": ("without an answer; the next attempt asks anew", WAITS),
    }.get(one.state, (one.state, PLAIN))
    error = f": {one.error}" if one.error else ""
    return _Point(one.asked_at, printable(f"asks {one.target} for {one.type}: {words}{error}"), style, order=4)


def _event_alone(one: EventView, begun: float, width: int) -> list[Line]:
    title = printable(f"{one.type} · {one.bot} · event:{one.id}")
    lines: list[Line] = [[(line, HEAD)] for line in _wrapped(title, width)]
    if one.causation_id:
        for line in _wrapped(f"caused by {printable(one.causation_id)}, trace {printable(one.correlation_id)}", width):
            lines.append([(line, FAINT)])
    lines += _at(_Point(one.occurred_at, f"published by {one.bot}"), begun, width, 0)
    if one.relayed_at is not None:
        lines += _at(_Point(one.relayed_at, "relayed to the bus"), begun, width, 0)
    else:
        lines += _at(_Point(one.occurred_at, "not relayed to the bus yet", WAITS), begun, width, 0)
    if not one.deliveries:
        lines.append([("  no bot has taken it into its inbox", FAINT)])
    for delivery in one.deliveries:
        lines += [[], *_block(delivery, begun, width, one.occurred_at, 1)]
    return lines


def _sums(body: TraceBody) -> Iterator[str]:
    if body.input_tokens or body.output_tokens:
        cost = f", {money(body.cost)} {body.currency}" if body.cost is not None else ""
        yield f"In all: {body.input_tokens} tokens in, {body.output_tokens} out{cost}."
    if body.unpriced:
        names = ", ".join(printable(one) for one in body.unpriced)
        yield f"No price is set for {names}; see `prices` in config/botctl.example.toml."
    for note in body.notes:
        yield f"Note: {printable(note)}"


def _at(point: _Point, begun: float, width: int, indent: int) -> list[Line]:
    head = f"{clock(point.at):<{_TIME}} {_after(point.at - begun):>{_AFTER}}  "
    room = max(_NARROWEST, width - indent - len(head))
    lines: list[Line] = []
    for line in _wrapped(printable(point.text), room):
        lines.append([(" " * indent + (head if not lines else " " * len(head)), FAINT), (line, point.style)])
    if point.said:
        lines += _quote(point.said, indent + len(head), width)
    return lines


def _quoted(content: ContentView, indent: int, width: int) -> list[Line]:
    said = _said(content)
    return _quote(said, indent, width) if said else []


def _quote(said: str, indent: int, width: int) -> list[Line]:
    room = max(_NARROWEST, width - indent - 2)
    found = [line for part in said.splitlines() for line in (_wrapped(printable(part), room) or [""])]
    return [[(" " * indent + "│ ", FAINT), (line, SAID)] for line in found]


def _said(content: ContentView) -> str | None:
    if content.fault:
        return f"({content.fault})"
    return content.text


def _content(content: ContentView, kind: str) -> str:
    what = printable(kind.replace("_", " ")) if kind else ""
    type_ = "" if content.type in ("", "text", "data", "query", kind) else printable(content.type)
    length = _length(content)
    return ", ".join(part for part in (what, type_, length) if part)


def _length(content: ContentView) -> str:
    if content.length is not None:
        return f"{content.length} character{'' if content.length == 1 else 's'}"
    return "sealed" if content.sealed else ""


def short_time(at: float, now: float) -> str:
    """In the operator's time zone; without the day for what is of the last twelve hours."""
    told = local_time(at)
    return told[11:] if abs(now - at) < 43_200 else told[:16]


def clock(at: float) -> str:
    """In the operator's time zone, to the millisecond."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.") + f"{int(at * 1000) % 1000:03d}"


def money(amount: float) -> str:
    """As many digits as tell something: `0.0012`, `1.25`."""
    if amount >= 0.1 or amount == 0:
        return f"{amount:.2f}"
    return f"{amount:.6f}".rstrip("0").rstrip(".") if amount >= 1e-6 else "<0.000001"


def _after(seconds: float) -> str:
    if abs(seconds) < 0.0005:
        return ""
    return f"+{_span(seconds)}" if seconds > 0 else f"-{_span(-seconds)}"


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(_NARROWEST, width), break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def styled(lines: Iterable[Line]) -> Iterator[object]:
    """The same for Rich."""
    from rich.text import Text

    for line in lines:
        text = Text()
        for part, style in line:
            text.append(part, style=style or None)
        text.rstrip()
        yield text
