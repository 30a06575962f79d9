"""Whether what is around the fleet is well enough to judge new code by what its bots do. Pure: the time is an argument.

While the database is away, or the fleet breaker holds restarts back, a bot that does not come back proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from botctl.control.ports import BotSight, FleetSight
from botctl.supervision.failures import TREATMENT

PATIENCE = 120.0
"""Seconds in all that one wave waits for its environment. A database that is restarted is back by then; a fleet that is
half old and half new code, with neither of them proven, is nothing to be left standing for longer."""

_ENVIRONMENTAL = frozenset(failure.value for failure, treatment in TREATMENT.items() if treatment.environmental)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong. `suspect`: only bots of the wave have failed, so that their code may be all that is wrong."""

    why: str
    suspect: bool = False


class Environment:
    """Looks at the views that a rollout gets, and keeps the time that trouble takes."""

    def __init__(self) -> None:
        self._wave: frozenset[int] = frozenset()
        self._failed_at: dict[int, float | None] = {}
        self._held = 0.0
        self._held_before = 0.0
        self._since: float | None = None

    def begin_wave(self, wave: Collection[int], sight: FleetSight) -> None:
        """These are about to be restarted; failures before `sight` are not theirs, nor the environment's of today."""
        self._wave = frozenset(wave)
        self._failed_at = {bot.bot_id: bot.last_failure_at for bot in sight.bots}
        self._held_before = self._held

    def look(self, sight: FleetSight, concerned: Collection[int], now: float) -> Trouble | None:
        """What is wrong in this view, for those who are concerned."""
        trouble = self._trouble(sight, concerned)
        if self._since is not None:
            self._held += now - self._since
        self._since = now if trouble is not None else None
        return trouble

    def clock(self, now: float) -> float:
        """The time without what trouble took of it: what nobody could do in time is not late."""
        return now - self._held

    @property
    def too_long(self) -> bool:
        """Whether a wave has waited for as long as it may."""
        return self._held - self._held_before > PATIENCE

    def _trouble(self, sight: FleetSight, concerned: Collection[int]) -> Trouble | None:
        paused = [bot for bot in sight.bots if bot.bot_id in concerned and bot.wanted and bot.state == "paused"]
        if paused:
            more = f" and {len(paused) - 1} more" if len(paused) > 1 else ""
            verb = "are" if more else "is"
            return Trouble(f"{paused[0].name}{more} {verb} paused: {paused[0].reason}".rstrip(": "))
        if not sight.breaker:
            return None
        fallen = {bot.bot_id for bot in sight.bots if self._has_fallen(bot)}
        return Trouble(sight.breaker, suspect=bool(fallen) and fallen <= self._wave)

    def _has_fallen(self, bot: BotSight) -> bool:
        new = bot.last_failure_at != self._failed_at.get(bot.bot_id)
        return new and bot.last_failure in _ENVIRONMENTAL
