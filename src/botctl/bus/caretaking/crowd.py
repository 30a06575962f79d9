"""Whose connections to Redis are too many, too large or too busy. Pure.

Redis limits the sum of all connections and no user's share, so one that takes them all locks out everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MOST_CONNECTIONS = 24
"""Of one bot. Ours has three, and twice that while an old incarnation ends; no client of ours opens more than eight."""

MOST_MEMORY = 32 * 1024 * 1024
"""Bytes of buffers of one bot's connections; the largest batch or reply of ours has some 7 MB."""

MOST_TRAFFIC = 64 * 1024 * 1024
"""Bytes to and from one bot's connections between two looks that are at most FRESH seconds apart."""

FRESH = 2.0
"""Seconds after which a look is too old to compare with: what came since then came in any length of time."""

_BEFORE_LOGIN = frozenset({"NULL", "auth", "hello", "reset", "quit"})
"""All that may be called without a login; NULL: nothing has been called yet."""


@dataclass(slots=True)
class Usage:
    """What one user's connections take. `traffic`: since a fresh look, where the server counts it; otherwise 0."""

    connections: int = 0
    memory: int = 0
    traffic: int = 0
    strangers: list[str] = field(default_factory=list)
    """Ids of connections that have not logged in, and don't seem to be about to."""

    def excess(self) -> str | None:
        """What is too much, in words."""
        if self.connections > MOST_CONNECTIONS:
            return f"{self.connections} connections; {MOST_CONNECTIONS} are allowed"
        if self.memory > MOST_MEMORY:
            return f"its connections' buffers hold {self.memory // 2**20} MB; {MOST_MEMORY // 2**20} are allowed"
        if self.traffic > MOST_TRAFFIC:
            return f"{self.traffic // 2**20} MB read and written at once; {MOST_TRAFFIC // 2**20} are allowed"
        return None


class Crowd:
    """Reads answers to CLIENT LIST, one after the other. What went before the first judges nobody."""

    def __init__(self) -> None:
        self._traffic: dict[str, int] = {}
        self._at = float("-inf")

    def look(self, clients: str, now: float) -> dict[str, Usage]:
        """By user. `now`: seconds of a clock that never goes back."""
        found: dict[str, Usage] = {}
        fresh = now - self._at <= FRESH
        before, self._traffic, self._at = self._traffic, {}, now
        for line in clients.splitlines():
            client = _fields(line.split(" "))
            usage = found.setdefault(client.get("user", ""), Usage())
            usage.connections += 1
            usage.memory += _number(client, "tot-mem")
            traffic = _number(client, "tot-net-in") + _number(client, "tot-net-out")
            self._traffic[client.get("id", "")] = traffic
            if fresh:  # One that a fresh look has not seen began after it: all of its traffic is new.
                usage.traffic += traffic - before.get(client.get("id", ""), 0)
            if client.get("cmd") in _BEFORE_LOGIN and _number(client, "age") >= 3:
                usage.strangers.append(client.get("id", ""))
        return found


def _fields(words: Iterable[str]) -> dict[str, str]:
    """Names that clients give themselves have no blanks, but may hold `=`."""
    return dict(word.split("=", 1) for word in words if "=" in word)


def _number(client: Mapping[str, str], name: str) -> int:
    return int(text) if (text := client.get(name, "")).isdecimal() else 0
