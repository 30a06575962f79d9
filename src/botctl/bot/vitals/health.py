"""How a bot is, as it tells the supervisor: troubles by their source, counters, gauges.

Keeps numbers and words only; sends nothing.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum


class Trouble(StrEnum):
    """What can be wrong with a bot's surroundings. `DATABASE` alone pauses it; with the others it works on."""

    OPEN_FILES = "open_files"
    DATABASE = "database"
    STUCK = "stuck"
    CONGESTION = "congestion"
    REDIS = "redis"
    BUS = "bus"
    COMPLETION = "completion"
    TELEGRAM = "telegram"
    CONFLICT = "conflict"


_EXPLAINED = frozenset({Trouble.DATABASE, Trouble.REDIS, Trouble.COMPLETION, Trouble.TELEGRAM})
"""What looks wrong as well to a bot that can open nothing; nobody is to look for a fault there."""

COUNTERS = (
    "updates",
    "messages_in",
    "messages_out",
    "completions",
    "tokens",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "completion_errors",
    "dead_letters",
    "divergences",
    "sends_uncertain",
    "sends_held_back",
    "ignored",
    "canaries_held_back",
    "handled",
    "handler_failures",
    "chats_unreachable",
    "requests_failed",
    "requests_expired",
    "late_replies",
)
"""`tokens`: of completions, in and out, as the API counts them; `tokens_cached` are among
`tokens_in`. `ignored`: updates of users who flood, set aside.
`handled`: updates of users that got what the handlers had for them. `handler_failures`: updates whose handling
failed, each counted once by a process, whether a later attempt succeeds or not; also those answered by an apology only.
Events, refused users and failures of the surroundings count as neither. `chats_unreachable`: chats found to be so.
`requests_failed`: requests to other bots without an answer in time; `requests_expired`: others' that were too late to
be worked on; `late_replies`: replies that nobody waited for any more.
"""


class Health:
    """The bot's present troubles and its counters, which only grow."""

    def __init__(self) -> None:
        self.counters: dict[str, float] = dict.fromkeys(COUNTERS, 0.0)
        self.changed = asyncio.Event()
        """Set when what is wrong has changed; whoever tells of it clears it."""
        self._troubles: dict[Trouble, str] = {}

    def count(self, name: str, by: float = 1.0) -> None:
        """Add to a counter of `COUNTERS`."""
        self.counters[name] += by

    def trouble(self, source: Trouble, reason: str) -> None:
        """Something is wrong, until `well`."""
        if self._troubles.get(source) != reason:
            self._troubles[source] = reason
            self.changed.set()

    def well(self, source: Trouble) -> None:
        """This source gives no trouble (any more)."""
        if self._troubles.pop(source, None) is not None:
            self.changed.set()

    @property
    def paused(self) -> bool:
        """Whether the bot can't work at all for now."""
        return Trouble.DATABASE in self._troubles

    @property
    def degraded(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._troubles)

    @property
    def reason(self) -> str:
        """What is wrong, the worst first, without what follows from that; empty when all is well."""
        explained = _EXPLAINED if Trouble.OPEN_FILES in self._troubles else ()
        return "; ".join(
            self._troubles[source] for source in Trouble if source in self._troubles and source not in explained
        )
