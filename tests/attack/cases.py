"""The attacks, each a declared case: what is tried, what must happen, and what happens instead where a level is weaker.

The table in docs/security.md is made from `CASES`. A case is the function that attacks; the tests of its area run it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Level(StrEnum):
    """How far a bot's process is isolated by the operating system."""

    UID = "uid"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True)
class Case:
    """One attack. `must` is what has to happen; `instead` what does happen at a level that can't keep it."""

    name: str
    must: str
    area: str
    instead: Mapping[Level, str] = field(default_factory=dict)
    managed: str = ""
    """What happens instead where the database's administrator is no superuser."""

    def at(self, level: Level) -> str:
        """What has to happen at this level."""
        return self.instead.get(level, self.must)


CASES: dict[str, Case] = {}
ATTACKS: dict[str, Callable[..., Any]] = {}


def attack(
    name: str,
    must: str = "refused",
    *,
    area: str = "",
    uid: str | None = None,
    landlock: str | None = None,
    none: str | None = None,
    managed: str = "",
) -> Callable[[F], F]:
    """Declare a case; the function is the attack. A level that is given ends as it says, not as it must."""
    told = {Level.UID: uid, Level.LANDLOCK: landlock, Level.NONE: none}

    def declare(function: F) -> F:
        room = area or function.__module__.rpartition(".")[0].rpartition(".")[2]
        instead = {level: words for level, words in told.items() if words is not None}
        case = Case(name, must, room, instead, managed)
        # A file of tests may be imported under two names.
        assert CASES.setdefault(name, case) == case, f"{name!r} is declared twice"
        ATTACKS[name] = function
        return function

    return declare
