"""Walks the catalogue of a database and tells whatever breaks the rules of isolation (design §4.4 to 4.7).

Used by `botctl doctor` and by the tests, so that no migration can forget a rule. Only reads, and never mends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from botctl.storage.guard_objects import OBJECT_RULES
from botctl.storage.guard_rules import OPEN_FUNCTIONS, OPEN_TABLES, TABLE_RULES

RULES: dict[str, str] = {**TABLE_RULES, **OBJECT_RULES}
"""Name of a rule, and the statement that finds what breaks it: rows of (object, what is wrong)."""

SUPERUSER_ONLY = frozenset({"functions of the server"})
"""Rules that an administrator who is no superuser can't have kept: only a superuser may take these rights away."""


@dataclass(frozen=True)
class Breach:
    """One object that breaks a rule."""

    rule: str
    object: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.object}: {self.wrong}"


async def inspect(connection: asyncpg.Connection[Any]) -> list[Breach]:
    """Every breach in the connection's database, which must be migrated. Any login may ask."""
    found = []
    for rule, statement in RULES.items():
        allowed = OPEN_FUNCTIONS if rule == "functions" else OPEN_TABLES
        rows = await connection.fetch(statement, *([sorted(allowed)] if "$1" in statement else []))
        found += [Breach(rule, row[0], row[1]) for row in rows]
    return found
