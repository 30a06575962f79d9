"""What a rolling restart decides: its waves, who is back, and whether replies have become worse. Pure.

The performing is `rolling_restart`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from botctl.control.ports import BotSight
from botctl.errors import UsageError
from botctl.fleet import Fleet

TOLERANCE = 0.10
"""By how much the share of updates that got their answer may fall."""

LEAST_FAILURES = 3
"""Fewer failed updates prove nothing."""

CHANCE = 0.001
"""A fall counts when it would come about by chance, with replies as good as before, less often than this.

The rate is looked at several times a second while it grows, so that "once in twenty" would take back every other
rollout.
"""

PRIOR_ATTEMPTS, PRIOR_FAILURES = 20.0, 1.0
"""What a bot is taken to have done before anything is known of it: without them, one that never had an update would
count as one that never fails, or always does."""

ENOUGH = 20
"""Updates of one wave, all of them answered, after which nothing more is waited for."""

ALLOWED_CRASHES = 1
"""Failures of its own doing that one bot is forgiven after its restart. Kills from outside, an old poll still held by
Telegram and being recycled are none, however often (`BotSight.failures`)."""

_MARGIN = 10.0
"""Seconds a bot is given beyond its own stop and ready times: for its turn to start, and for one crash."""

_GOES_ON = frozenset({"starting", "running", "degraded", "paused", "backoff", "failed", "stopping"})
_SERVES = frozenset({"running", "degraded"})
_SIZE = re.compile(r"([1-9]\d*)(%?)")


@dataclass(frozen=True, slots=True)
class WaveSize:
    """How many bots are restarted at once: a number of them, or a share of the fleet."""

    number: int
    percent: bool

    @classmethod
    def parse(cls, text: str) -> WaveSize:
        """`5%` or `3`. Raises UsageError."""
        match = _SIZE.fullmatch(text.strip())
        if match is None or (match[2] and int(match[1]) > 100):
            raise UsageError(f"{text!r} is no size of a wave", hint="Give a number of bots, as 3, or a share, as 5%.")
        return cls(int(match[1]), bool(match[2]))

    def of(self, bots: int) -> int:
        """Bots of one wave in a fleet of so many: at least one."""
        return max(1, bots * self.number // 100) if self.percent else self.number


def waves(bots: Sequence[BotSight], size: WaveSize) -> list[tuple[BotSight, ...]]:
    """The bots in their order, in waves; the last may be smaller."""
    step = size.of(len(bots))
    return [tuple(bots[first : first + step]) for first in range(0, len(bots), step)]


def takes_part(bot: BotSight) -> bool:
    """Whether a rollout restarts this bot: not one that was stopped, is or will be quarantined, or never started."""
    return bot.wanted and bot.state in _GOES_ON and not bot.shut_away


def allowance(fleet: Fleet, bots: Collection[BotSight]) -> float:
    """Seconds that these bots have together to come back: the longest of their own times, and some to take turns."""
    ids = {bot.bot_id for bot in bots}
    policies = [spec.restart for spec in fleet.bots if spec.bot_id in ids]
    longest = max((policy.stop_timeout + policy.ready_timeout for policy in policies), default=0.0)
    return longest + _MARGIN + 0.1 * len(ids)


def is_of(bot: BotSight, generation: int) -> bool:
    """Whether a bot is of this generation of the forkserver, or would be at its next start.

    One that the generation's code has quarantined has no process any more, but is still meant to be of it.
    """
    return generation != 0 and generation in (bot.forkserver, bot.assigned)


class Return(Enum):
    """How far a restarted bot is."""

    UNDER_WAY = "under way"
    BACK = "back"
    LEFT = "left"
    """It was stopped or shut away on purpose meanwhile: none of our business."""
    LOST = "lost"


def returned(before: BotSight, now: BotSight | None, *, late: bool, generation: int = 0) -> tuple[Return, str]:
    """How far a bot is that was as `before` when its restart was asked for, and why, when it is lost.

    `late`: it has had all the time that it is given. `generation`: the forkserver's that it must be of; 0 for any.
    """
    if now is None or now.shut_away or (not now.wanted and now.state != "quarantined"):
        return Return.LEFT, ""
    if now.state == "quarantined":
        return Return.LOST, f"is quarantined: {now.reason}"
    if now.failures - before.failures > ALLOWED_CRASHES:
        return Return.LOST, f"keeps failing ({now.last_failure}): {now.reason}" if now.reason else "keeps failing"
    fresh = now.incarnation > before.incarnation and generation in (0, now.forkserver)
    if fresh and now.state in _SERVES:
        return Return.BACK, ""
    if late:
        return Return.LOST, f"does not come back; it is {now.state}: {now.reason}".rstrip(": ")
    return Return.UNDER_WAY, ""


# --- replies -------------------------------------------------------------------------------------------------------


_MOST = 1e9
"""Updates that one process can have handled."""

ENOUGH_TO_JUDGE = 10_000
"""Updates by which a wave is judged, of however many there were; their sum takes 10 ms."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Updates of users: how many were answered, and how many were not."""

    handled: float = 0.0
    failures: float = 0.0

    @property
    def attempts(self) -> float:
        """All of them."""
        return self.handled + self.failures

    @property
    def success(self) -> float:
        """Share that was answered; 1 of nothing."""
        return 1.0 - self.failures / self.attempts if self.attempts else 1.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.handled + other.handled, self.failures + other.failures)

    @classmethod
    def of(cls, bot: BotSight) -> Tally:
        """Of one incarnation, from the counters of its heartbeat."""
        handled, failures = (bot.counters.get(name, 0.0) for name in ("handled", "handler_failures"))
        # What a bot says of itself is taken as far as it can be true.
        return cls(max(0.0, min(handled, _MOST)), max(0.0, min(failures, _MOST)))

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """Their sum."""
        return sum(tallies, cls())


class Ledger:
    """The tally of one bot since its restart, over all its incarnations: counters begin anew with each."""

    def __init__(self, before: BotSight) -> None:
        self._after = before.incarnation
        self._latest: dict[int, Tally] = {}

    def take(self, bot: BotSight) -> None:
        """Note its counters."""
        if bot.incarnation > self._after:
            self._latest[bot.incarnation] = Tally.of(bot)

    @property
    def tally(self) -> Tally:
        """The sum."""
        return Tally.total(self._latest.values())


def fall(before: Tally, since: Tally) -> str | None:
    """Why replies have become worse than they were; None when they have not, or too little is known.

    The number of failures among n updates is binomial. With p the rate of failures before, made a little worse by the
    prior, the chance of at least as many failures as were seen says whether they need another explanation than bad
    luck. Without history (p = 5 %): 3 of 3, 4 of 8, 5 of 14 failures count, and 3 of 6, 4 of 12 do not yet.
    """
    failures, attempts = int(since.failures), int(since.attempts)
    if failures < LEAST_FAILURES or before.success - since.success <= TOLERANCE:
        return None
    rate = (before.failures + PRIOR_FAILURES) / (before.attempts + PRIOR_ATTEMPTS)
    # More than enough of them tell nothing more, and each costs time.
    share = min(1.0, ENOUGH_TO_JUDGE / attempts)
    if _at_least(int(failures * share), int(attempts * share), rate) >= CHANCE:
        return None
    was = f"{before.success:.0%} before" if before.attempts else "nothing to compare with before"
    return f"{failures} of {attempts} updates were not answered ({since.success:.0%}, {was})"


def enough(tallies: Sequence[Tally]) -> bool:
    """Whether the bots of a wave have shown that they answer: each of them, often, and without a failure."""
    total = Tally.total(tallies)
    return total.attempts >= ENOUGH and not total.failures and all(one.handled for one in tallies)


def _at_least(k: int, n: int, p: float) -> float:
    """Chance of k or more of n, each with chance p."""
    if k <= 0 or p >= 1.0:
        return 1.0
    if p <= 0.0:
        return 0.0
    return min(1.0, math.fsum(math.exp(_log_chance(i, n, p)) for i in range(k, n + 1)))


def _log_chance(i: int, n: int, p: float) -> float:
    """Of exactly i; by logarithms, so that large numbers of updates don't overflow."""
    ways = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
    return ways + i * math.log(p) + (n - i) * math.log1p(-p)
