"""The tables of attacks in docs/security.md, made from the declared cases: `python tests/attack/table.py` writes them.

A table stands between `<!-- attacks: AREA -->` and `<!-- end of attacks -->`.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from attack.cases import ATTACKS, CASES, Case, Level  # noqa: E402

DOCUMENT = TESTS.parent / "docs/security.md"
MODULES = {
    "processes": ("attack.os.intruder", "attack.os.test_intruder", "attack.os.test_full_stack"),
    "database": ("attack.sql.test_sql",),
}
"""Where the cases of an area are declared."""

_BLOCK = re.compile(r"(<!-- attacks: (\w+) -->\n).*?(<!-- end of attacks -->)", re.S)


def table(area: str) -> str:
    """The cases of an area. What must happen stands for itself; what happens instead is in bold."""
    for name in MODULES.get(area, ()):
        importlib.import_module(name)
    if area == "database":
        return _of_database()
    lines = ["| attack | must be | " + " | ".join(f"`{level}`" for level in Level) + " |", "|---|---|---|---|---|"]
    for case in sorted((case for case in CASES.values() if case.area == area), key=_place):
        cells = [f"**{case.instead[level]}**" if level in case.instead else case.must for level in Level]
        lines.append(f"| {case.name} | {case.must} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _place(case: Case) -> tuple[str, int]:
    """Where it is written down: files may be imported in any order."""
    code = ATTACKS[case.name].__code__
    return Path(code.co_filename).name, code.co_firstlineno


def _of_database() -> str:
    """A bot's login has the same rights at every level; who administers the server makes a difference."""
    lines = ["| attack | ends with | where the administrator is no superuser |", "|---|---|---|"]
    for case in CASES.values():
        if case.area == "database":
            cells = [f"**{words}**" if words.startswith("succeeds") else words for words in (case.must, case.managed)]
            lines.append(f"| {case.name} | {cells[0]} | {cells[1] or 'the same'} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The document with its tables made anew."""
    return _BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
