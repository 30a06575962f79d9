"""One message's way as a terminal shows it: lines of styled text. Pure: the body, the width and the time are arguments.

A line begins with a time and with how long after the first one it was. What other bots made of an event stands behind
all of its own cause, a step further in. Strangers' words come without what would move the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from botctl.cli.lines import (
    BAD,
    FAINT,
    GOOD,
    HEAD,
    NARROWEST,
    PLAIN,
    SAID,
    WAITS,
    Line,
    brief_span,
    clock,
    short_time,
    wrapped,
)
from botctl.cli.trace_points import Point, length_words, money, points, said
from botctl.cli.words import cut, local_time, printable

if TYPE_CHECKING:
    from botctl.control.tracing.views import ChatBody, ContentView, EventView, HandlingView, TraceBody

_TIME, _AFTER = 12, 9
"""Columns of a time and of what follows it."""


def trace_lines(body: TraceBody, width: int) -> list[Line]:
    """All of a trace, no wider than `width`."""
    lines: list[Line] = []
    begun = _begin(body)
    if body.event is not None:
        lines += _event_alone(body.event, begun, width, body.now)
    for root in body.roots:
        lines += ([[]] if lines else []) + _block(root, begun, width, body.now, 0)
    if tail := list(_sums(body)):
        lines += [[], *([(line, FAINT)] for text in tail for line in wrapped(text, width))]
    return lines


def chat_lines(body: ChatBody, width: int) -> list[Line]:
    """The messages of a chat, a line each and its text, if it was asked for, below; the newest last."""
    lines: list[Line] = []
    for one in reversed(body.messages):
        state, style = _STATES.get(one.state, (one.state, PLAIN))
        took = f" in {brief_span(one.ended_at - one.received_at)}" if one.state == "done" and one.ended_at else ""
        facts = [f"{state}{took}", _content(one.content, one.kind)]
        facts += [f"{one.attempts} attempts"] if one.attempts > 1 else []
        facts += [f"{one.sends} sent"] if one.sends else []
        facts += [f"{one.tokens} tokens"] if one.tokens else []
        facts += [one.error] if one.error and one.state != "done" else []
        cause = printable(one.cause)
        named = cause.removeprefix("update:")
        at = f"{short_time(one.received_at, body.now)}  "
        head = f"{named:<10}  "
        rest = cut("; ".join(printable(fact) for fact in facts), max(NARROWEST, width - len(at) - len(head)))
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
    moments = sorted(points(one, now), key=lambda point: (point.at, point.order))
    for point in moments:
        lines += _at(point, begun, width, indent)
    for taken in (*(event.deliveries for event in one.events), *(request.deliveries for request in one.requests)):
        for delivery in taken:
            lines += [[], *_block(delivery, begun, width, now, depth + 1)]
    return lines


def _title(one: HandlingView, width: int, indent: int) -> list[Line]:
    state, style = _STATES[one.state]
    if one.state == "done" and one.ended_at is not None and one.received_at is not None:
        state = f"done in {brief_span(one.ended_at - one.received_at)}"
    where = f"chat {one.chat_id}" if one.chat_id is not None else one.lane
    arrow = "→ " if indent else ""
    facts = [f"{arrow}{one.bot}", one.cause.replace("update:", "update "), where if one.kind != "event" else ""]
    facts += [f"trace {one.trace_id}"] if one.trace_id and not indent else []
    title = " · ".join(printable(fact) for fact in facts if fact)
    lines: list[Line] = [[(" " * indent + line, HEAD)] for line in wrapped(title, width - indent)]
    what = "" if one.kind == "event" else _content(one.content, one.kind)
    day = f" · {local_time(one.received_at)[:10]}" if one.received_at is not None and not indent else ""
    lines.append([(" " * indent, PLAIN), (state, style), (f" · {what}" if what else "", FAINT), (day, FAINT)])
    lines += _quoted(one.content, indent, width)
    return lines


def _event_alone(one: EventView, begun: float, width: int, now: float) -> list[Line]:
    title = printable(f"{one.type} · {one.bot} · event:{one.id}")
    lines: list[Line] = [[(line, HEAD)] for line in wrapped(title, width)]
    if one.causation_id:
        for line in wrapped(f"caused by {printable(one.causation_id)}, trace {printable(one.correlation_id)}", width):
            lines.append([(line, FAINT)])
    lines += _at(Point(one.occurred_at, f"published by {one.bot}"), begun, width, 0)
    if one.relayed_at is not None:
        lines += _at(Point(one.relayed_at, "relayed to the bus"), begun, width, 0)
    else:
        lines += _at(Point(one.occurred_at, "not relayed to the bus yet", WAITS), begun, width, 0)
    if not one.deliveries:
        lines.append([("  no bot has taken it into its inbox", FAINT)])
    for delivery in one.deliveries:
        lines += [[], *_block(delivery, begun, width, now, 1)]
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


def _at(point: Point, begun: float, width: int, indent: int) -> list[Line]:
    head = f"{clock(point.at):<{_TIME}} {_after(point.at - begun):>{_AFTER}}  "
    room = max(NARROWEST, width - indent - len(head))
    lines: list[Line] = []
    for line in wrapped(printable(point.text), room):
        lines.append([(" " * indent + (head if not lines else " " * len(head)), FAINT), (line, point.style)])
    if point.said:
        lines += _quote(point.said, indent + len(head), width)
    return lines


def _quoted(content: ContentView, indent: int, width: int) -> list[Line]:
    text = said(content)
    return _quote(text, indent, width) if text else []


def _quote(text: str, indent: int, width: int) -> list[Line]:
    room = max(NARROWEST, width - indent - 2)
    found = [line for part in text.splitlines() for line in (wrapped(printable(part), room) or [""])]
    return [[(" " * indent + "│ ", FAINT), (line, SAID)] for line in found]


def _content(content: ContentView, kind: str) -> str:
    what = printable(kind.replace("_", " ")) if kind else ""
    type_ = "" if content.type in ("", "text", "data", "query", kind) else printable(content.type)
    length = length_words(content)
    return ", ".join(part for part in (what, type_, length) if part)


def _after(seconds: float) -> str:
    if abs(seconds) < 0.0005:
        return ""
    return f"+{brief_span(seconds)}" if seconds > 0 else f"-{brief_span(-seconds)}"
