"""Whether a bot is deaf: Telegram holds updates for it, and it commits none although it says that it works. Pure.

A bot that is slow commits now and then, so it isn't deaf; nor is one that is paused, that starts, or that Telegram
itself has told to wait. One look proves nothing: updates lie at Telegram for a moment in the best of days.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

LISTENING = frozenset({"running", "degraded"})
"""States in which a bot should be taking updates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What one probe found. Times are of the caller's monotonic clock, in seconds.

    `committed_at` is when the bot last committed updates, None when it has not told. `webhook` is where Telegram sends
    the updates to instead, empty when nowhere. `held`: Telegram has told the bot to wait before it polls again.
    """

    at: float
    pending: int
    state: str
    incarnation: int
    committed_at: float | None
    webhook: str = ""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """To be told to the supervisor."""

    deaf: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Suspicion:
    since: float
    pending: int
    incarnation: int


class Ears:
    """What is known of the hearing of all bots. `patience`: seconds without a commit that make a bot deaf."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._suspicions: dict[int, _Suspicion] = {}
        self._told_deaf: dict[int, bool] = {}

    @property
    def suspicious(self) -> bool:
        """Whether any bot is under suspicion, so that glances are worth their cost."""
        return bool(self._suspicions)

    def look(self, bot_id: int, look: Look) -> Word | None:
        """Judge a probe. That a bot is deaf is told at every probe that shows it; that it hears, when it is news."""
        suspicion = self._suspicions.pop(bot_id, None)
        if look.state not in LISTENING:
            return None
        if look.pending <= 0:
            return self._hears(bot_id)
        if look.held or look.committed_at is None:
            return None
        fresh = _Suspicion(look.at, look.pending, look.incarnation)
        if suspicion is None or suspicion.incarnation != look.incarnation:
            self._suspicions[bot_id] = fresh
            return None
        if look.committed_at > suspicion.since:
            self._suspicions[bot_id] = fresh
            return self._hears(bot_id)
        if look.pending < suspicion.pending:
            # Somebody takes them, and not by committing: let it be seen what comes of it.
            self._suspicions[bot_id] = fresh
            return None
        self._suspicions[bot_id] = _Suspicion(suspicion.since, look.pending, look.incarnation)
        silent = look.at - suspicion.since
        if silent < self._patience:
            return None
        self._told_deaf[bot_id] = True
        return Word(True, _reason(look, silent))

    def glance(self, bot_id: int, state: str, incarnation: int) -> None:
        """Between probes: a bot that was paused or began anew meanwhile had no chance to commit."""
        suspicion = self._suspicions.get(bot_id)
        if suspicion is not None and (state not in LISTENING or incarnation != suspicion.incarnation):
            del self._suspicions[bot_id]

    def keep_only(self, bot_ids: Collection[int]) -> None:
        """Forget all other bots."""
        for known in (self._suspicions, self._told_deaf):
            for bot_id in known.keys() - set(bot_ids):
                del known[bot_id]

    def _hears(self, bot_id: int) -> Word | None:
        # Of a bot never heard of, the supervisor may have been told by the `control` before this one.
        if self._told_deaf.get(bot_id) is False:
            return None
        self._told_deaf[bot_id] = False
        return Word(False)


def _reason(look: Look, silent: float) -> str:
    wait = "1 update waits" if look.pending == 1 else f"{look.pending} updates wait"
    reason = f"{wait} at Telegram, none was committed for {silent:.0f} s"
    if look.webhook:
        # Its path often holds the token.
        host = urlsplit(look.webhook).hostname or "somewhere"
        reason += f"; a webhook is set at Telegram, to {host}, so that polling brings nothing"
    return reason
