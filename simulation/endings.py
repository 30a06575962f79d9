"""What follows the end of a process: nothing, a new start, a delay, quarantine; by its class and what came before."""

from __future__ import annotations

from botctl.supervision import events
from botctl.supervision.model import Exit, Failure, State
from simulation.account import EPSILON, Account
from simulation.view import ASKED, NOT, RESTING, View

HOPELESS = frozenset({Failure.BAD_TOKEN, Failure.CODE})
NOT_COUNTED = frozenset({Failure.CONFLICT, Failure.SIGNAL, Failure.SPAWN})
ENVIRONMENTAL = frozenset({Failure.CRASH, Failure.EXIT, Failure.HANG, Failure.NOT_READY, Failure.OOM, Failure.SPAWN})
OUTSIDE_SIGNALS = frozenset({1, 2, 9, 15})
WELL = frozenset({State.RUNNING, State.DEGRADED, State.PAUSED})
WELL_FOR = 1.0
"""Seconds for which a bot must have been ready to be started at once after a failure that is no fault of its own."""


class Endings(Account):
    """Of the account, what concerns ends."""

    def _gone(self, view: View, event: events.Exited | events.SpawnFailed, now: float) -> None:
        """The process has ended, or never was."""
        if not view.process or (type(event) is events.SpawnFailed and view.process != ASKED):
            return
        judged, ending, after = view.judged, view.ending, view.afterwards
        said, why = view.said, view.said_why
        ready_at, was_ready = view.ready_at, view.ready
        view.process, view.pid, view.judged, view.ending, view.hard, view.due = RESTING, None, False, False, NOT, None
        view.ready = view.paused = view.degraded = False
        view.ready_at = view.said = None
        view.said_why = ""
        view.rest = State.STOPPED
        view.stops_by = None
        if ending and after != "fail":
            view.previous = None
            if after == "start":
                view.restarts += 1
                self._queues(view, now, fresh=False)
                self.tallies["restarted"] += 1
            elif after == "quarantine":
                view.shut = "wish"
                self.tallies["quarantined"] += 1
            return
        if judged or ending or said is not None:
            failure = said or Failure.CRASH
        elif type(event) is events.SpawnFailed:
            failure, why = Failure.SPAWN, event.reason
        else:
            assert type(event) is events.Exited
            failure = self._class_of(event.exit)
        if not why and type(event) is events.Exited:
            why = self._how(event.exit)
        self._failed(view, failure, why, ready_at, was_ready, now)

    @staticmethod
    def _how(ending: Exit) -> str:
        if ending.signal is not None:
            return f"signal {ending.signal}"
        return "vanished" if ending.code is None else f"exit {ending.code}"

    @staticmethod
    def _class_of(ending: Exit) -> Failure:
        if ending.signal is not None:
            if ending.oom:
                return Failure.OOM
            return Failure.SIGNAL if ending.signal in OUTSIDE_SIGNALS else Failure.CRASH
        return Failure.EXIT if ending.code == 0 else Failure.CRASH

    def _failed(
        self, view: View, failure: Failure, why: str, ready_at: float | None, was_ready: bool, now: float
    ) -> None:
        policy = view.policy
        self.tallies["failed"] += 1
        counts = failure not in NOT_COUNTED
        view.last_failure = view.previous = failure
        view.reason = view.cause = why
        stable = ready_at is not None and now >= ready_at + policy.period
        blameless = was_ready and not counts and ready_at is not None and now >= ready_at + WELL_FOR
        at_once = stable or blameless
        view.row = 1 if at_once else view.row + 1
        if counts:
            # What the environment did counts for nobody, also when it is noticed by this very failure.
            view.failures = [at for at in view.failures if now < at + policy.period]
            view.failures.append(now)
        forgiven: list[int] = []
        freed: list[int] = []
        if failure in ENVIRONMENTAL and view.wanted and view.paced:
            fleet = [one for one in self.views.values() if one.paced]
            wanted = sum(one.wanted for one in fleet)
            forgiven, tripped = self.fuse.failure(view.key, wanted, now)
            if tripped and self.fuse.doubts:
                well = sum(one.shown() in WELL for one in fleet)
                own = {key for key in self.fuse.suspects() if 2 * well >= wanted or not self.views[key].been_ready}
                freed = self.fuse.minds_no_more(own)
                forgiven = [one for one in forgiven if one not in own]
            if tripped and self.fuse.stage != "closed":
                self._hold_all()
            if counts and view.key in forgiven:
                view.failures = [now]
        if failure in HOPELESS:
            view.shut = "failures"
        elif not view.wanted:
            return
        elif counts and policy.intensity is not None and len(view.failures) > policy.intensity:
            view.shut = "failures"
            view.reason = f"{len(view.failures)} failures within {policy.period:g} s, the last: {why}"
        for one in forgiven:
            if one in self.views:
                self.views[one].failures = []
        for one in freed:
            self.views[one].waits, self.views[one].queued = "delay", True
            self.queue.ask(one)
        if view.shut:
            self.tallies["quarantined"] += 1
            return
        doubled = policy.first_delay
        for _ in range(min(view.row - 1, 40)):
            doubled = min(2 * doubled, policy.max_delay)
        most = 0.0 if at_once else min(doubled, policy.max_delay)
        view.waits, view.queued = "delay", False
        change = next((one for one in self._seen if one.key == view.key), None)
        until = change.after.deadline if change is not None else None
        if until is None or not (now + 0.5 * most - EPSILON <= until <= now + most + EPSILON):
            self.broken(
                "backoff", f"failure {view.row} in a row at {now:.3f}, due at {until}, at most {most:g} s", view.key
            )
        if most:
            self.fractions.append((until - now) / most)
        view.due = until
        self._soonest = min(self._soonest, until)
