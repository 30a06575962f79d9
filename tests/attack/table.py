"""The tables of attacks in docs/security.md, made from the declared cases: `python tests/attack/table.py` writes them.

A table stands between `<!-- attacks: AREA -->` and `<!-- end of attacks -->`.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs/security.md"
MODULES = {"processes": ("attack.os.intruder", "attack.os.test_intruder", "attack.os.test_full_stack")}
"""Where the cases of an area are declared."""

_BLOCK = re.compile(r"(<!-- attacks: (\w+) -->\n).*?(<!-- end of attacks -->)", re.S)


def table(area: str) -> str:
    """The cases of an area. What must happen stands for itself; what happens instead is in bold."""
    from attack.cases import CASES, Level

    for name in MODULES.get(area, ()):
        importlib.import_module(name)
    lines = ["| attack | must be | " + " | ".join(f"`{level}`" for level in Level) + " |", "|---|---|---|---|---|"]
    for case in CASES.values():
        if case.area == area:
            cells = [f"**{case.instead[level]}**" if level in case.instead else case.must for level in Level]
            lines.append(f"| {case.name} | {case.must} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The document with its tables made anew."""
    return _BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
