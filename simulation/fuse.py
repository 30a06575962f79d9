"""What the fleet breaker and the queue for turns owe, in the oracle's own words. Knows nothing of their code."""

from __future__ import annotations

from math import ceil

from botctl.supervision.breaker import BreakerPolicy
from botctl.supervision.pacing import Pace


class Fuse:
    """When restarts are held back, whom it lets go and when, and when it doubts that the environment is at fault."""

    __slots__ = (
        "alive",
        "batch",
        "held",
        "in_a_row",
        "last_trip",
        "law",
        "own",
        "pause",
        "probe",
        "reason",
        "recent",
        "stage",
        "trips",
        "until",
    )

    def __init__(self, law: BreakerPolicy) -> None:
        self.law = law
        self.stage = "closed"
        self.recent: list[tuple[float, int]] = []
        """The newest failure of each bot that counts."""
        self.held: list[tuple[bool, int]] = []
        """Those held back in their order; True: not before those that were well until now."""
        self.own: dict[int, float | None] = {}
        """Bots that it minds no more, with the time since when they show life; None while they don't."""
        self.in_a_row = 0
        """Times that it has tripped without a calm between."""
        self.pause = 0.0
        self.until = 0.0
        self.last_trip: float | None = None
        self.probe: int | None = None
        self.alive = False
        self.batch = 0
        self.trips = 0
        self.reason = ""

    def failure(self, key: int, wanted: int, now: float) -> tuple[list[int], bool]:
        """Whose failures are forgiven by this one, and whether it trips."""
        law = self.law
        if key in self.own:
            since = self.own[key]
            if since is None or now < since + law.calm:
                self.own[key] = None
                return [], False
            del self.own[key]
        self.recent = [(at, one) for at, one in self.recent if one != key]
        self.recent.append((now, key))
        self.recent = [(at, one) for at, one in self.recent if now < at + law.window]
        if self.stage == "probing" and self.probe == key:
            self._trip(now)  # for the same reason as before
            return [key], True
        if self.stage in ("open", "probing"):
            return [key], False
        if len(self.recent) >= law.least and len(self.recent) >= ceil(law.share * wanted):
            self._trip(now)
            number = len(self.recent)
            self.reason = f"{number} of {wanted} bots failed within {law.window:g} s, so restarts are held back"
            return [one for _, one in self.recent], True
        return [], False

    def _trip(self, now: float) -> None:
        law = self.law
        if self.last_trip is None or (self.stage == "closed" and now > self.last_trip + law.calm):
            self.pause, self.in_a_row = law.first_pause, 1
        else:
            self.pause, self.in_a_row = min(2 * self.pause, law.max_pause), self.in_a_row + 1
        self.stage, self.probe, self.last_trip, self.until = "open", None, now, now + self.pause
        self.trips += 1

    @property
    def doubts(self) -> bool:
        """Whether it has tripped too often in a row to go on believing in the environment."""
        return self.in_a_row >= self.law.doubt_after

    def suspects(self) -> set[int]:
        """Those that are held back, or have failed lately."""
        return {key for _, key in self.held} | {key for _, key in self.recent}

    def minds_no_more(self, keys: set[int]) -> list[int]:
        """They are on their own; those of them that were held are free. With nobody else to mind it closes."""
        free = [key for _, key in self.held if key in keys]
        self.held = [one for one in self.held if one[1] not in keys]
        self.recent = [one for one in self.recent if one[1] not in keys]
        self.own |= dict.fromkeys(keys)
        if not self.held and not self.recent:
            self._close()
        return free

    def hold(self, key: int, *, was_well: bool) -> None:
        """Keep it back."""
        self.held.append((not was_well, key))

    def leaves(self, key: int, now: float) -> None:
        """It is gone for good."""
        self.let_be(key, now)
        self.own.pop(key, None)
        self.recent = [one for one in self.recent if one[1] != key]

    def shows_life(self, key: int, now: float) -> None:
        """The probe has to last for a while from its first sign of life."""
        if key in self.own and self.own[key] is None:
            self.own[key] = now
        if self.stage == "probing" and self.probe == key and not self.alive:
            self.alive, self.until = True, now + self.law.settle

    def let_be(self, key: int, now: float) -> None:
        """Somebody else has decided about it."""
        self.held = [one for one in self.held if one[1] != key]
        if self.stage == "probing" and self.probe == key:
            self.stage, self.probe, self.until = "open", None, now

    def lets_go(self, now: float) -> list[int]:
        """Those whose restart is due."""
        if self.stage == "closed" or now < self.until:
            return []
        if self.stage == "probing" and self.alive:
            self.stage, self.batch, self.recent = "releasing", 2, []
        first = sorted(self.held, key=lambda one: one[0])
        if self.stage == "releasing":
            freed = first[: self.batch]
            self.held = [one for one in self.held if one not in freed]
            if not freed:
                self._close()
            self.batch += self.batch
            self.until = now + self.law.stagger
            return [key for _, key in freed]
        if not self.held:
            self._close()
            return []
        self.stage, self.alive, self.until = "probing", False, now + self.law.patience
        self.held.remove(first[0])
        self.probe = first[0][1]
        return [self.probe]

    def _close(self) -> None:
        self.stage, self.probe, self.recent, self.reason = "closed", None, [], ""


class Queue:
    """Who waits for a turn, in which order, and who has one since when."""

    __slots__ = ("law", "starting", "waiting")

    def __init__(self, law: Pace) -> None:
        self.law = law
        self.waiting: list[int] = []
        self.starting: list[tuple[float, int]] = []
        """Oldest first."""

    def ask(self, key: int) -> None:
        """At the end of the queue, once."""
        if key not in self.waiting:
            self.waiting.append(key)

    def leave(self, key: int) -> None:
        """Needs no turn, or no longer has one."""
        if key in self.waiting:
            self.waiting.remove(key)
        for one in self.starting:
            if one[1] == key:
                self.starting.remove(one)
                return

    def admitted(self, now: float) -> int | None:
        """Whose turn has come."""
        if not self.waiting:
            return None
        if len(self.starting) >= self.law.at_once:
            if now - self.starting[0][0] < self.law.turn_timeout:
                return None
            del self.starting[0]
        key = self.waiting.pop(0)
        self.starting.append((now, key))
        return key

    def next_at(self) -> float | None:
        """When somebody who waits may take the place of one who shows no life."""
        if not self.waiting or not self.starting:
            return None
        return self.starting[0][0] + self.law.turn_timeout
