"""Whose turn it is, of the lanes that are ready. Pure.

Lanes take turns; those that had nothing waiting take every other turn, so that they needn't queue behind a backlog. A
lane whose name has a party, `request:bot:7|…`, shares its turns with the other lanes of that party: one bot that sends
a thousand requests, each a lane of its own, has no more turns than a chat.
"""

from __future__ import annotations

from collections import OrderedDict, deque

PARTY = "|"
"""Ends the name of the party in a lane's name."""


class Turns:
    """Names of lanes, each added when it is ready and given back once."""

    def __init__(self) -> None:
        self._ready, self._prompt = _Round(), _Round()
        self._last_was_prompt = False

    def add(self, name: str, *, prompt: bool) -> None:
        """It is ready. `prompt`: nothing of it waited before."""
        (self._prompt if prompt else self._ready).add(name)

    def next(self) -> str | None:
        """The lane that is to go; None: there is none."""
        if not (self._ready or self._prompt):
            return None
        self._last_was_prompt = bool(self._prompt) and not (self._last_was_prompt and self._ready)
        return (self._prompt if self._last_was_prompt else self._ready).next()


class _Round:
    """Parties by turns; within one, who came first."""

    def __init__(self) -> None:
        self._parties: OrderedDict[str, deque[str]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._parties)

    def add(self, name: str) -> None:
        self._parties.setdefault(name.partition(PARTY)[0], deque()).append(name)

    def next(self) -> str:
        party, names = self._parties.popitem(last=False)
        name = names.popleft()
        if names:
            self._parties[party] = names
        return name
