"""Lines of styled text, which a terminal shows: styles, wrapping, times. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from datetime import datetime

from botctl.cli.words import local_time

HEAD, GOOD, BAD, WAITS, FAINT, PLAIN, SAID = "bold", "green", "red", "yellow", "dim", "", "italic"

Line = list[tuple[str, str]]
"""Parts of a line: text and style."""

NARROWEST = 30
"""Columns for words, however narrow a terminal is."""


def wrapped(text: str, width: int) -> list[str]:
    """Lines of words; what is longer than a line is broken."""
    return textwrap.wrap(text, max(NARROWEST, width), break_on_hyphens=False)


def short_time(at: float, now: float) -> str:
    """In the operator's time zone; without the day for what is of the last twelve hours."""
    told = local_time(at)
    return told[11:] if abs(now - at) < 43_200 else told[:16]


def clock(at: float) -> str:
    """In the operator's time zone, to the millisecond."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.") + f"{int(at * 1000) % 1000:03d}"


def brief_span(seconds: float) -> str:
    """`12 ms`, `3.5 s`, `5 min`, `3 h`, `2 days`."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def styled(lines: Iterable[Line]) -> Iterator[object]:
    """The same for Rich."""
    from rich.text import Text

    for line in lines:
        text = Text()
        for part, style in line:
            text.append(part, style=style or None)
        text.rstrip()
        yield text
