"""Dead letters as a terminal shows them. Pure: bodies, width and time are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botctl.cli.lines import BAD, FAINT, GOOD, HEAD, NARROWEST, PLAIN, SAID, WAITS, Line, short_time, wrapped
from botctl.cli.trace_points import FAILED
from botctl.cli.words import cut, local_time, printable, when

if TYPE_CHECKING:
    from botctl.control.tracing.views import AttemptView, DeadLetterBody, DeadLettersBody, DeadLetterView, SendView


def letters_lines(body: DeadLettersBody, width: int, now: float) -> list[Line]:
    """A line each; why it was given up gets what room is left."""
    rows = [
        (
            printable(one.id),
            short_time(one.at, now),
            "-" if one.chat_id is None else str(one.chat_id),
            str(one.attempts),
            printable(one.cause or one.kind).replace("update:", "update ") + ": ",
            _flat(one.error),
        )
        for one in body.letters
    ]
    heads = ("ID", "WHEN", "CHAT", "TRIED")
    sizes = [max(len(head), *(len(row[n]) for row in rows)) for n, head in enumerate(heads)]
    told = [
        head.rjust(size) if n > 1 else head.ljust(size) for n, (head, size) in enumerate(zip(heads, sizes, strict=True))
    ]
    lines: list[Line] = [[("  ".join([*told, "WHY"]), HEAD)]]
    room = max(NARROWEST, width - sum(sizes) - 2 * len(sizes))
    for row in rows:
        cells = [
            cell.rjust(size) if n > 1 else cell.ljust(size)
            for n, (cell, size) in enumerate(zip(row, sizes, strict=False))
        ]
        cause = cut(row[4], room)
        lines.append(
            [
                (cells[0], PLAIN),
                ("  " + "  ".join(cells[1:]) + "  ", FAINT),
                (cause, FAINT),
                (cut(row[5], room - len(cause)), BAD),
            ]
        )
    return lines


def letter_lines(body: DeadLetterBody, width: int, now: float, *, text: bool) -> list[Line]:
    """One with all that is kept of it."""
    one = body.letter
    lines: list[Line] = [[(printable(f"{one.id} · {_called(one)}"), HEAD)]]
    state = "dropped" if one.state == "dropped" else "refused by the bus" if one.where == "bus" else "given up"
    lines.append([(f"{state} {when(one.at, now)}", FAINT if one.state == "dropped" else BAD)])
    if one.received_at is not None:
        lines.append([(f"received {when(one.received_at, now)}, trace {printable(one.trace_id) or '-'}", FAINT)])
    lines += [[(line, BAD)] for line in wrapped(f"Why: {_flat(one.error) or 'nobody has said'}", width)]
    if body.history:
        lines += [[], [("Attempts:", HEAD)]]
        for attempt in body.history:
            lines += _attempt(attempt, width)
    tracebacks = [attempt for attempt in body.history if attempt.traceback]
    if tracebacks:
        last = tracebacks[-1]
        lines += [[], [(f"Traceback of attempt {last.attempt}:", HEAD)]]
        lines += [[("  ", PLAIN), (printable(line), PLAIN)] for line in (last.traceback or "").splitlines()]
    if body.sends:
        lines += [[], [("Sent or planned already (not sent again):", HEAD)]]
        lines += [line for send in body.sends for line in _send(send, width)]
    if body.payload:
        masked = "" if text else " (texts and names masked; --text shows them)"
        lines += [[], [(f"What came{masked}:", HEAD)]]
        lines += [[("  ", PLAIN), (printable(line), SAID if text else PLAIN)] for line in body.payload.splitlines()]
    elif body.content.fault:
        lines += [[], [(f"What came can't be opened: {printable(body.content.fault)}", BAD)]]
    elif body.content.sealed:
        lines += [[], [("What came is sealed; --text opens it.", WAITS)]]
    if one.todo:
        lines += [[], *([(line, GOOD if one.can_retry else WAITS)] for line in wrapped(printable(one.todo), width))]
    return lines


def _called(one: DeadLetterView) -> str:
    chat = f" · chat {one.chat_id}" if one.chat_id is not None else ""
    return f"{one.cause or one.kind}{chat}".replace("update:", "update ")


def _attempt(one: AttemptView, width: int) -> list[Line]:
    head = f"  {local_time(one.ended_at)}  "
    style = BAD if one.outcome in ("failed", "given up") else WAITS
    number = f" {one.attempt}" if one.outcome in ("failed", "waited", "interrupted") else ""
    tried = f" at attempt {one.attempt}" if one.outcome == "given up" and one.attempt else ""
    told = wrapped(f"{one.outcome}{number}{tried}: {_flat(one.error)}", max(NARROWEST, width - len(head)))
    return [[(head if n == 0 else " " * len(head), FAINT), (line, style)] for n, line in enumerate(told)]


def _send(one: SendView, width: int) -> list[Line]:
    error = f": {one.error}" if one.error else ""
    where = f" to chat {one.chat_id}" if one.chat_id is not None else ""
    state = FAILED[one.refused] if one.state == "failed" else one.state
    told = _flat(f"{one.method}{where}: {state}{error}")
    return [[("  ", PLAIN), (line, PLAIN)] for line in wrapped(told, width - 2)]


def _flat(text: str) -> str:
    return printable(" ".join(text.split()))
