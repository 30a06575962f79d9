"""All bots together: their state machines, their turns to start, the breaker, their deadlines.

`FleetMachine` is told what happens and gives the changes that follow, as values that `runtime` performs. It holds the
records, and nothing that the next event could not have told it. Pure: no clock, no process; time is an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from botctl.supervision.actions import Action, AskTurn
from botctl.supervision.breaker import Breaker, BreakerPolicy, BreakerState
from botctl.supervision.events import Admitted, Beat, Due, Event, Exited, Held, Pardoned, SpawnFailed, Stalled, Unwant
from botctl.supervision.failures import TREATMENT
from botctl.supervision.machine import step
from botctl.supervision.model import HAS_PROCESS, Policy, Record, State
from botctl.supervision.pacing import Pace, Turns
from botctl.supervision.reconcile import Wanted, reconcile

_FAILED = frozenset({State.BACKOFF, State.QUARANTINED})
_ENDS = (Exited, SpawnFailed)
_ASK = AskTurn()
_SHOWS_LIFE = frozenset({State.RUNNING, State.DEGRADED, State.PAUSED})

_NEVER = float("inf")

STALL = 1.0
"""Seconds by which the caller may be late before it counts as having been away."""


class Change(NamedTuple):
    """What one event made of one child. `actions` are to be performed in their order."""

    key: int
    before: Record
    after: Record
    event: Event
    actions: tuple[Action, ...]
    forgotten: bool
    """It has left the fleet and its record is gone."""


class FleetMachine:
    """`records` by key. Children added with `paced=False` (servers, `control`) need no turn and mind no breaker."""

    def __init__(self, pace: Pace | None = None, breaker: BreakerPolicy | None = None) -> None:
        self.records: dict[int, Record] = {}
        self.turns = Turns(pace or Pace())
        self.breaker = Breaker(breaker or BreakerPolicy())
        self._wanted: dict[int, Wanted] = {}
        self._leaving: set[int] = set()
        self._paced: set[int] = set()
        self._incarnations: dict[int, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._scheduled: dict[int, float] = {}

    # --- who there is ----------------------------------------------------------------------------------------------

    def add(self, key: int, policy: Policy, *, paced: bool = True) -> Record:
        """Put a child on the books. The numbers of its incarnations go on where an earlier one of this key ended."""
        record = Record(key, policy, incarnation=self._incarnations.get(key, 0))
        self.records[key] = record
        if paced:
            self._paced.add(key)
        return record

    def set_policy(self, key: int, policy: Policy) -> Record:
        """Another policy from now on; deadlines that run already stay."""
        record = self.records[key] = self.records[key].but(policy=policy)
        return record

    def desire(self, desired: Mapping[int, Wanted], now: float) -> list[Change]:
        """Make this the wanted fleet; every bot of it has been added. Those not in it are stopped and forgotten."""
        plan = reconcile(self._wanted, desired, self.records)
        self._wanted = dict(desired)
        self._leaving = (self._leaving | plan.forget) - desired.keys()
        changes: list[Change] = []
        for key, event in plan.events.items():
            changes += self.feed(key, event, now)
        return changes

    def enabled(self, key: int) -> bool:
        """Whether the wanted fleet has this child running; one that is in no fleet is wanted for its own sake."""
        wanted = self._wanted.get(key)
        return wanted is None or wanted.enabled

    def dismiss(self, key: int, reason: str, now: float) -> list[Change]:
        """Stop a child and forget it when it has ended."""
        self._leaving.add(key)
        return self.feed(key, Unwant(reason), now)

    # --- what happens ----------------------------------------------------------------------------------------------

    def feed(self, key: int, event: Event, now: float) -> list[Change]:
        """One event of one child, and all that follows from it. A child that is not on the books is ignored."""
        if key not in self.records:
            return []
        changes: list[Change] = []
        if type(event) is Due and self._holds_back(key):
            event = Held(self.breaker.reason)
            self._hold(key)
        self._apply(key, event, now, changes)
        self._give_turns(now, changes)
        return _merged(changes)

    def elapse(self, now: float) -> list[Change]:
        """Let time pass for the queue of turns and the breaker; call it at `next_look`."""
        changes: list[Change] = []
        for key in self.breaker.let_go(now):
            self._apply(key, Due(), now, changes)
        self._give_turns(now, changes)
        return _merged(changes)

    def stalled(self, seconds: float, now: float) -> list[Change]:
        """The caller could not listen for so long: nobody's silence counts."""
        changes: list[Change] = []
        for key in list(self.records):
            self._apply(key, Stalled(seconds), now, changes)
        return changes

    def due(self, now: float) -> list[int]:
        """Children whose deadline has passed; each is to be fed `Due` unless it has been heard of meanwhile."""
        found: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            at, key = heapq.heappop(self._deadlines)
            if self._scheduled.get(key) == at:
                del self._scheduled[key]
                if self.is_due(key, now):
                    found.append(key)
                else:
                    self._schedule(key)
        return found

    def is_due(self, key: int, now: float) -> bool:
        """Whether this child's deadline has passed."""
        record = self.records.get(key)
        return record is not None and record.deadline is not None and record.deadline <= now

    def next_look(self) -> float | None:
        """When something is due, or `elapse` has something to do; None when nothing will be."""
        first = self._deadlines[0][0] if self._deadlines else _NEVER
        for look in (self.breaker.next_look(), self.turns.next_look()):
            if look is not None and look < first:
                first = look
        return None if first == _NEVER else first

    # --- one step --------------------------------------------------------------------------------------------------

    def _apply(self, key: int, event: Event, now: float, changes: list[Change]) -> None:
        before = self.records[key]
        after, actions = step(before, event, now)
        paced = key in self._paced
        guiltless: tuple[int, ...] = ()
        freed: tuple[int, ...] = ()
        if paced and type(event) in _ENDS and _is_environmental(before, after):
            guiltless, freed = self._tell_breaker_of_failure(key, now, changes)
            if key in guiltless and after.state is State.QUARANTINED:
                # Judged again, without the failures that were not its own.
                after, actions = step(before.but(failures=()), event, now)
        self.records[key] = after
        asks = bool(actions) and _ASK in actions
        if asks:
            actions = tuple(action for action in actions if not isinstance(action, AskTurn))
        forgotten = key in self._leaving and after.state not in HAS_PROCESS
        if after is not before or actions or forgotten:
            changes.append(Change(key, before, after, event, actions, forgotten))
        moved = after.state is not before.state
        if paced:
            # A turn ends with the first sign of life, with the process, and with the wish to start.
            if (moved and type(event) is not Admitted) or (type(event) is Beat and after.state is State.STARTING):
                self.turns.leave(key)
            if asks:
                self.turns.ask(key)
            if moved:
                self._tell_breaker(key, before, after, event, now)
        if forgotten:
            self._forget(key, now)
        else:
            self._schedule(key)
            if asks and not paced:
                self._apply(key, Admitted(), now, changes)
        for one in guiltless:
            if one in self.records:
                self._apply(one, Pardoned(), now, changes)
        for one in freed:
            self._apply(one, Due(), now, changes)

    def _tell_breaker(self, key: int, before: Record, after: Record, event: Event, now: float) -> None:
        """Of a new state."""
        if before.state is State.BACKOFF and type(event) is not Admitted:
            self.breaker.drop(key, now)
        if after.state in _SHOWS_LIFE:
            self.breaker.alive(key, now)

    def _tell_breaker_of_failure(
        self, key: int, now: float, changes: list[Change]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those whose failures were the environment's, and those that are held back no more.

        Once it opens, who waits for a turn waits for the breaker.
        """
        was_open = self.breaker.state is BreakerState.OPEN
        wanted = sum(self.records[one].wanted for one in self._paced)
        guiltless = self.breaker.failed(key, wanted, now)
        if self.breaker.state is not BreakerState.OPEN or was_open:
            return guiltless, ()
        freed: tuple[int, ...] = ()
        if self.breaker.doubtful:
            well = sum(self.records[one].state in _SHOWS_LIFE for one in self._paced if one != key)
            own = [one for one in self.breaker.suspects() if 2 * well >= wanted or not self.records[one].been_ready]
            freed = self.breaker.leave_alone(own)
            guiltless = tuple(one for one in guiltless if one not in own)
        for one in self.turns.queue():
            if self.records[one].state is State.BACKOFF and self.breaker.minds(one):
                self.turns.leave(one)
                self._hold(one)
                self._apply(one, Held(self.breaker.reason), now, changes)
        return guiltless, freed

    def _hold(self, key: int) -> None:
        record = self.records[key]
        self.breaker.hold(key, first=record.been_ready and record.consecutive == 1)

    def _forget(self, key: int, now: float) -> None:
        self._incarnations[key] = self.records.pop(key).incarnation
        self._leaving.discard(key)
        self._paced.discard(key)
        self._scheduled.pop(key, None)
        self.turns.leave(key)
        self.breaker.forget(key, now)

    def _give_turns(self, now: float, changes: list[Change]) -> None:
        while (key := self.turns.next(now)) is not None:
            self._apply(key, Admitted(), now, changes)

    def _holds_back(self, key: int) -> bool:
        return key in self._paced and self.breaker.minds(key) and self.records[key].state is State.BACKOFF

    def _schedule(self, key: int) -> None:
        """Look at a child at its deadline; one that moves away keeps its entry, which is put right when it comes."""
        deadline = self.records[key].deadline
        if deadline is not None and deadline < self._scheduled.get(key, _NEVER):
            self._scheduled[key] = deadline
            heapq.heappush(self._deadlines, (deadline, key))


def _is_environmental(before: Record, after: Record) -> bool:
    """Whether it has just failed in a way that the environment may have brought about."""
    failed = after.state is not before.state and after.state in _FAILED and not after.shut_away
    return failed and after.last_failure is not None and TREATMENT[after.last_failure].environmental


def _merged(changes: list[Change]) -> list[Change]:
    """With a child that passed a state without staying in it seen to go straight to the next."""
    if len(changes) < 2:
        return changes
    merged: list[Change] = []
    for change in changes:
        last = merged[-1] if merged else None
        if last is not None and last.key == change.key and isinstance(change.event, Admitted):
            merged[-1] = last._replace(after=change.after, actions=last.actions + change.actions)
        else:
            merged.append(change)
    return merged
