"""Whether a bot is parked: it takes no updates, and Telegram drops those that wait after 24 hours. Pure.

It goes by one figure, the seconds for which updates may have been waiting: since the bot last took any, or since
Telegram last said that none waits, whichever is later. Why it takes none (stopped, failed, quarantined, paused, deaf, a
webhook that does not get through) is told, but decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botctl.bus.events import event_id
from botctl.storage.outbox import StoredEvent

TELEGRAM_KEEPS = 24 * 3600.0
"""Seconds (https://core.telegram.org/bots/api#getting-updates)."""

THRESHOLDS = (6 * 3600.0, 12 * 3600.0, 20 * 3600.0, 23 * 3600.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is known of one bot now. Times are seconds since the epoch.

    `taken_at` is when it surely took updates last, or polled in vain; `pending` what Telegram holds for it, None when
    it can't be asked. `state` and `reason` are the supervisor's.
    """

    bot_id: int
    name: str
    state: str
    reason: str
    taken_at: float
    pending: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """A bot past the first threshold. `threshold` is the highest one it has passed, in seconds."""

    standing: Standing
    since: float
    seconds: float
    threshold: float

    @property
    def words(self) -> str:
        """For an operator."""
        pending = self.standing.pending
        wait = "perhaps some wait" if pending is None else "1 waits" if pending == 1 else f"{pending} wait"
        left = TELEGRAM_KEEPS - self.seconds
        end = f"drops the first in {_hours(left)}" if left > 0 else "drops them after 24 h: some may be lost"
        return f"has taken no updates for {_hours(self.seconds)}: {wait} at Telegram, which {end}"


class ParkedRule:
    """What is known of all bots. `thresholds`: ascending, in seconds."""

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.seconds: Mapping[int, float] = {}
        """By bot_id, for how long updates may have been waiting."""
        self.parked: Mapping[int, Parked] = {}
        """Those past the first threshold."""
        self._thresholds = tuple(thresholds)
        self._empty_at: dict[int, float] = {}
        self._told: dict[int, tuple[float, float]] = {}

    def look(self, standings: Collection[Standing], now: float) -> list[Parked]:
        """Judge all bots; those that have passed another threshold since the last look."""
        known = {one.bot_id for one in standings}
        for memory in (self._empty_at, self._told):
            for bot_id in memory.keys() - known:
                del memory[bot_id]
        seconds, parked, news = {}, {}, []
        for one in standings:
            if one.pending == 0:
                self._empty_at[one.bot_id] = now
            since = max(one.taken_at, self._empty_at.get(one.bot_id, 0.0))
            seconds[one.bot_id] = waited = max(0.0, now - since)
            passed = [threshold for threshold in self._thresholds if waited >= threshold]
            if not passed:
                self._told.pop(one.bot_id, None)
                continue
            parked[one.bot_id] = found = Parked(standing=one, since=since, seconds=waited, threshold=passed[-1])
            if self._told.get(one.bot_id) != (since, passed[-1]):
                self._told[one.bot_id] = (since, passed[-1])
                news.append(found)
        self.seconds, self.parked = seconds, parked
        return news

    def forget(self, parked: Parked) -> None:
        """It could not be told; tell it with the next look."""
        self._told.pop(parked.standing.bot_id, None)


def event_of(parked: Parked, now: float) -> StoredEvent:
    """The event; the same passing of a threshold always gives the same id, also from the next `control`."""
    one = parked.standing
    data: dict[str, Any] = {
        "bot_id": one.bot_id,
        "name": one.name,
        "state": one.state,
        "reason": one.reason[:500].replace("\0", ""),
        "parked_s": round(parked.seconds, 1),
        "threshold_s": parked.threshold,
        "pending": one.pending,
    }
    cause = f"parked:{one.bot_id}:{round(parked.since)}:{round(parked.threshold)}"
    return StoredEvent(
        event_id=event_id(0, cause, 0),
        type="bot.parked",
        version=1,
        occurred_at=now,
        correlation_id="",
        causation_id="",
        data=data,
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
