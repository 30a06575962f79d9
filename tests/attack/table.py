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
    "processes": (
        "attack.os.handlers_of_intruder",
        "attack.os.against_processes",
        "attack.os.against_files",
        "attack.os.against_sockets",
        "attack.os.against_kernel",
        "attack.os.against_limits",
        "attack.os.test_intruder",
        "attack.os.test_full_stack",
    ),
    "database": ("attack.sql.test_sql",),
    "bus": ("attack.redis.test_redis", "attack.redis.test_floods"),
    "secrets": ("attack.secrets.test_secrets",),
    "vault": ("attack.vault.ciphertexts",),
    "ingress": ("attack.ingress.strangers",),
}
"""Where the cases of an area are declared, in the order of its table."""

_BLOCK = re.compile(r"(<!-- attacks: (\w+) -->\n).*?(<!-- end of attacks -->)", re.S)


def table(area: str) -> str:
    """The cases of an area. What must happen stands for itself; what happens instead is in bold."""
    for name in MODULES.get(area, ()):
        importlib.import_module(name)
    if area == "database":
        return _of_database()
    if area == "bus":
        return _of_bus()
    if area in ("secrets", "vault", "ingress"):
        return _at_every_level(area)
    lines = ["| attack | must be | " + " | ".join(f"`{level}`" for level in Level) + " |", "|---|---|---|---|---|"]
    for case in _cases(area):
        cells = [f"**{case.instead[level]}**" if level in case.instead else case.must for level in Level]
        lines.append(f"| {case.name} | {case.must} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cases(area: str) -> list[Case]:
    """In the order of the modules and of what stands in them: files may be imported in any order."""

    def place(case: Case) -> tuple[int, int]:
        function = ATTACKS[case.name]
        return MODULES[area].index(function.__module__), function.__code__.co_firstlineno

    return sorted((case for case in CASES.values() if case.area == area), key=place)


def _at_every_level(area: str) -> str:
    """What has nothing to do with how a process is isolated."""
    return (
        "\n".join(["| attack | ends with |", "|---|---|", *(f"| {one.name} | {one.must} |" for one in _cases(area))])
        + "\n"
    )


def _of_database() -> str:
    """A bot's login has the same rights at every level; who administers the server makes a difference."""
    lines = ["| attack | ends with | where the administrator is no superuser |", "|---|---|---|"]
    for case in CASES.values():
        if case.area == "database":
            cells = [f"**{words}**" if words.startswith("succeeds") else words for words in (case.must, case.managed)]
            lines.append(f"| {case.name} | {cells[0]} | {cells[1] or 'the same'} |")
    return "\n".join(lines) + "\n"


def _of_bus() -> str:
    """A bot's Redis user has the same rights at every level, and so far on both servers."""
    lines = ["| attack | ends with |", "|---|---|"]
    for case in (case for case in CASES.values() if case.area == "bus"):
        lines.append(f"| {case.name} | {f'**{case.must}**' if case.must.startswith('succeeds') else case.must} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The document with its tables made anew."""
    return _BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
