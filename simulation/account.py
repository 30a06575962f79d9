"""The oracle's own account of every child, of the queue for turns and of the breaker; and what follows from what.

Made from the rules of the design and not from the code: calls nothing of `supervision` but constructors of values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from botctl.supervision import events
from botctl.supervision.actions import Action, AskStop, Spawn
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import State
from simulation.fuse import Fuse, Queue
from simulation.view import ASKED, KILL, NOT, TERM, TOLD, UP, View

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.profiles import Setting


class BrokenError(Exception):
    """An invariant does not hold. `law` is its name in `invariants.py`."""

    def __init__(self, law: str, what: str, key: int | None, now: float) -> None:
        super().__init__(f"{law}: {what}")
        self.law, self.what, self.key, self.now = law, what, key, now


EPSILON = 1e-6


class Account:
    """What is known, and what was due to be done by it."""

    def __init__(self, machine: FleetMachine, setting: Setting) -> None:
        self.machine = machine
        self.fuse = Fuse(setting.breaker)
        self.queue = Queue(setting.pace)
        self.views: dict[int, View] = {}
        self.now = 0.0
        self.fractions: list[float] = []
        """Of delays, between half and the whole."""
        self.spreads: list[float] = []
        """At what part of their limit bots were recycled."""
        self.tallies = {
            "started": 0,
            "failed": 0,
            "quarantined": 0,
            "condemned": 0,
            "acquitted": 0,
            "recycled": 0,
            "restarted": 0,
        }
        self.living: dict[int, Process] = {}
        """The processes that there are."""
        self._numbers: dict[int, int] = {}
        self._expected: dict[int, list[Action]] = {}
        self._seen: list[Change] = []
        self._soonest = 0.0
        self.pending: set[int] = set()
        """Those whose deadline is about to be seen to."""

    def broken(self, law: str, what: str, key: int | None = None) -> NoReturn:
        """Say that an invariant does not hold."""
        raise BrokenError(law, what, key, self.now)

    def _means(self, view: View, event: events.Event, now: float) -> None:
        """What an event means: in `rules`."""
        raise NotImplementedError

    def _apply(self, view: View, event: events.Event, now: float) -> None:
        before = view.seen
        self._means(view, event, now)
        after = view.shown()
        if after is not before:
            view.since, view.seen = now, after
        if view.paced:
            if before is State.STARTING and (after is not before or type(event) is events.Beat):
                self.queue.leave(view.key)
            if after is not before:
                self._tell_fuse(view, before, after, now)
        if view.leaving and not view.process:
            self._leaves(view, now)

    def _leaves(self, view: View, now: float) -> None:
        """It has left the fleet and ended, so it must be forgotten now."""
        key = view.key
        self._numbers[key] = view.incarnation
        self.queue.leave(key)
        self.fuse.leaves(key, now)
        view.waits, view.queued, view.due = "", False, None
        view.rest = State.CONFIGURED

    def _tell_fuse(self, view: View, before: State, after: State, now: float) -> None:
        fuse, key = self.fuse, view.key
        if before is State.BACKOFF:
            fuse.let_be(key, now)
        if after in (State.RUNNING, State.DEGRADED, State.PAUSED):
            fuse.shows_life(key, now)

    def _hold_all(self) -> None:
        """Whoever waits for a turn after a failure waits for the breaker from now on."""
        for one in list(self.queue.waiting):
            view = self.views[one]
            if view.waits == "delay" and one not in self.fuse.own:
                self._holds(view)
                self.queue.leave(one)

    def _holds(self, view: View) -> None:
        view.waits, view.queued, view.due, view.reason = "held", False, None, self.fuse.reason
        self.fuse.hold(view.key, was_well=view.been_ready and view.row == 1)

    def _rests(self, view: View) -> None:
        self.queue.leave(view.key)
        view.waits, view.queued, view.due, view.rest = "", False, None, State.STOPPED

    def _stops(self, view: View, afterwards: str, reason: str, now: float) -> None:
        view.ending, view.judged, view.afterwards, view.hard = True, False, afterwards, TOLD
        view.reason = reason
        if view.process == UP:
            view.stops_by = now + view.policy.stop_timeout + view.policy.term_timeout
        self._owes(view, now, view.policy.stop_timeout)
        self._does(view, AskStop(view.policy.stop_timeout))

    def _queues(self, view: View, now: float, *, fresh: bool) -> None:
        """Waits for a turn; `fresh`: by a wish, so that its row of failures is over."""
        if fresh:
            view.row = 0
        view.since = now
        view.waits, view.due = "turn", None
        view.reason = "waits for its turn to start"
        if view.leaving:
            return
        if view.paced:
            if view.seen is not State.CONFIGURED:
                self.queue.leave(view.key)
            self.queue.ask(view.key)
        else:
            self._starts(view, now)

    def _starts(self, view: View, now: float) -> None:
        if view.process:
            self.broken("one process", "started twice", view.key)
        if view.shut:
            self.broken("quarantine", "started though it is quarantined", view.key)
        if view.waits in ("delay", "held"):
            view.restarts += 1
        view.incarnation += 1
        view.process, view.pid = ASKED, None
        view.waits, view.queued, view.hard, view.afterwards = "", False, NOT, "stay"
        view.ready = view.paused = view.degraded = False
        view.deaf, view.ready_at, view.started_at = "", None, now
        view.reason = ""
        view.since, view.seen = now, State.STARTING
        self._owes(view, now, view.policy.ready_timeout)
        self._does(view, Spawn(view.incarnation))
        self.tallies["started"] += 1

    def _owes(self, view: View, now: float, seconds: float | None) -> None:
        """Something is due after so many seconds."""
        if seconds is None:
            view.due = None
            return
        view.due, view.due_most = now + seconds, seconds
        if view.due < self._soonest:
            self._soonest = view.due

    def _does(self, view: View, action: Action) -> None:
        self._expected.setdefault(view.key, []).append(action)

    def _settle(self, now: float) -> None:
        """Turns that can be had are given at once."""
        queue = self.queue
        while queue.waiting:
            key = queue.admitted(now)
            if key is None:
                return
            self._starts(self.views[key], now)

    @staticmethod
    def _whole(view: View) -> float:
        """The whole time it has for what it is doing."""
        policy = view.policy
        if view.judged:
            return policy.kill_timeout if view.hard == KILL else policy.dump_timeout
        if view.ending:
            return {TOLD: policy.stop_timeout, TERM: policy.term_timeout, KILL: policy.kill_timeout}[view.hard]
        if view.ready or view.paused:
            return policy.heartbeat_timeout or 0.0
        return policy.ready_timeout
