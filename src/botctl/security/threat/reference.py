"""Writes the table of rules into a page, between its marks.

`python -m botctl.security.threat.reference docs/threats.md`
"""

from __future__ import annotations

import sys
from pathlib import Path

from botctl.fleet.threats import Tuning
from botctl.security.threat.rules import RULES

BEGIN, END = "<!-- threat rules: begin -->", "<!-- threat rules: end -->"


def reference() -> str:
    """The table."""
    tuning = Tuning()
    lines = ["| rule | sees | source | kind, mode at first | points each, at most |", "|---|---|---|---|---|"]
    for rule in RULES:
        kind = f"{'hard' if rule.hard else 'soft'}, {tuning.mode(rule.name, hard=rule.hard).value}"
        points = "–" if rule.hard else f"{rule.weight:g}, {rule.cap:g}"
        lines.append(f"| `{rule.name}` | {rule.summary} | {rule.source} | {kind} | {points} |")
    return "\n".join(lines)


def inserted(page: str) -> str:
    """The page with today's table. Raises ValueError when it has no marks."""
    before, rest = page.split(f"{BEGIN}\n", 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(inserted(target.read_text("utf-8")), "utf-8")
