"""What each event means for a child, in the oracle's own words: by event, not by state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botctl.supervision import events
from botctl.supervision.actions import AskStop, DumpStacks, Kill, Terminate
from botctl.supervision.fleet_machine import FleetMachine
from botctl.supervision.model import Failure, Health, State
from simulation.account import EPSILON
from simulation.endings import Endings
from simulation.profiles import Setting
from simulation.view import ASKED, KILL, NOT, TERM, UP, View


class Rules(Endings):
    """Of the account, what concerns commands and what children say."""

    def __init__(self, machine: FleetMachine, setting: Setting) -> None:
        super().__init__(machine, setting)
        self._meanings: dict[type[events.Event], Callable[[View, Any, float], None]] = {
            events.Want: self._want,
            events.Unwant: self._unwant,
            events.Restart: self._restart,
            events.Quarantine: self._quarantine,
            events.Release: self._release,
            events.Pardoned: self._pardoned,
            events.Spawned: self._spawned,
            events.SpawnFailed: self._gone,
            events.BecameReady: self._became_ready,
            events.Beat: self._beat,
            events.LastWords: self._last_words,
            events.Misbehaved: self._misbehaved,
            events.Exited: self._gone,
            events.Hearing: self._hearing,
            events.Due: self._due,
        }

    def _means(self, view: View, event: events.Event, now: float) -> None:
        self._meanings[type(event)](view, event, now)

    def _want(self, view: View, event: events.Want, now: float) -> None:
        view.wanted = True
        if view.process:
            if view.ending and view.afterwards == "stay":
                view.afterwards = "start"
        elif not view.shut and view.waits in ("", "turn"):
            self._queues(view, now, fresh=True)

    def _unwant(self, view: View, event: events.Unwant, now: float) -> None:
        view.wanted = False
        if view.lives:
            self._stops(view, "stay", event.reason, now)
        elif view.ending:
            if view.afterwards != "quarantine":
                view.afterwards, view.reason = "stay", event.reason
        elif view.judged:
            self._ends_at_once(view, now)
        elif not view.process and not view.shut:
            if view.rest is not State.STOPPED or view.waits:
                view.reason = event.reason
                view.since = now
            self._rests(view)

    def _restart(self, view: View, event: events.Restart, now: float) -> None:
        if view.lives:
            view.wanted = True
            self._stops(view, "start", event.reason, now)
        elif view.ending:
            view.wanted = True
            if view.afterwards != "quarantine":
                view.afterwards = "start"
        elif view.judged:
            view.wanted = True
            self._ends_at_once(view, now)
        elif not view.shut:
            view.wanted = True
            if view.waits in ("delay", "held"):
                self.queue.leave(view.key)
            self._queues(view, now, fresh=True)

    def _ends_at_once(self, view: View, now: float) -> None:
        """Judged already, and somebody wishes for its end: its stacks are not waited for, nor a sign of life."""
        if view.hard != KILL:
            view.hard = KILL
            self._owes(view, now, view.policy.kill_timeout)
            self._does(view, Kill())

    def _quarantine(self, view: View, event: events.Quarantine, now: float) -> None:
        if view.process:
            view.ending, view.judged, view.afterwards, view.hard = True, False, "quarantine", KILL
            self._owes(view, now, view.policy.kill_timeout)
            self._does(view, Kill())
            view.reason, view.since = event.reason, now
        elif not view.shut:
            self._rests(view)
            view.shut, view.reason = "wish", event.reason
            self.tallies["quarantined"] += 1
        else:
            view.shut = "wish"

    def _release(self, view: View, event: events.Release, now: float) -> None:
        if view.process:
            if view.ending and view.afterwards == "quarantine":
                view.afterwards, view.reason = "start" if view.wanted else "stay", "released"
                view.failures, view.row = [], 0
        elif view.shut:
            view.shut, view.failures, view.row = "", [], 0
            view.rest = State.STOPPED
            view.reason = "released"
            if view.wanted:
                self._queues(view, now, fresh=False)

    def _pardoned(self, view: View, event: events.Pardoned, now: float) -> None:
        view.failures = []

    def _spawned(self, view: View, event: events.Spawned, now: float) -> None:
        if view.process != ASKED:
            return
        view.process, view.pid = UP, event.pid
        if view.ending:
            hard = (AskStop(view.policy.stop_timeout), AskStop(view.policy.stop_timeout), Terminate(), Kill())
            self._does(view, hard[view.hard])
        elif not view.judged:
            self._owes(view, now, view.policy.ready_timeout)
        elif view.hard == KILL:
            self._does(view, Kill())

    def _became_ready(self, view: View, event: events.BecameReady, now: float) -> None:
        if not view.lives or (view.ready and not view.paused):
            return
        view.been_ready = True
        view.ready, view.paused, view.degraded, view.ready_at = True, False, bool(view.deaf), now
        view.reason = view.deaf
        self._owes(view, now, view.policy.heartbeat_timeout)

    def _beat(self, view: View, event: events.Beat, now: float) -> None:
        if view.judged and view.hard == NOT and view.ready and view.said is Failure.HANG:
            # Silent for too long, but it isn't being ended yet, and it beats.
            view.judged, view.said, view.said_why = False, None, ""
            self.tallies["acquitted"] += 1
        if not view.lives:
            return
        policy = view.policy
        if event.health is Health.PAUSED:
            view.paused = True
        elif not view.ready:
            if view.paused or event.health is Health.DEGRADED:
                self._owes(view, now, policy.ready_timeout)
            view.paused = False
            view.reason = event.reason
            return
        else:
            view.paused = False
            view.degraded = event.health is Health.DEGRADED or bool(view.deaf)
        view.reason = f"{view.deaf}; {event.reason}" if view.deaf and event.reason else event.reason or view.deaf
        self._owes(view, now, policy.heartbeat_timeout)
        self._recycled(view, event, now)

    def _recycled(self, view: View, event: events.Beat, now: float) -> None:
        policy = view.policy
        if policy.memory_soft and event.memory > policy.memory_soft:
            view.said, view.said_why = (
                Failure.MEMORY,
                f"{event.memory:.0f} MB of memory, {policy.memory_soft:.0f} MB allowed",
            )
            self._stops(view, "fail", view.said_why, now)
            return
        if view.ready_at is None or now < view.ready_at + policy.period:
            return  # not more often than that, whatever it says
        if view.paused:
            return  # a restart does not help while the database is away
        if not policy.max_age and not policy.max_updates and not self._seen[0].actions:
            return
        change = next((one for one in self._seen if one.key == view.key), None)
        done = change is not None and change.after.state is State.STOPPING
        age = now - (view.started_at or 0.0)
        by_updates = done and change is not None and change.after.reason.endswith("updates")
        for value, limit, word in ((age, policy.max_age, " s"), (event.updates, policy.max_updates, " updates")):
            if by_updates and word == " s" and value < limit * 1.1:
                continue
            if limit and value >= limit * 1.1:
                done = True
                break
            if limit and done and value >= limit * 0.9:
                self.spreads.append(value / limit)
                break
        else:
            if done:
                self.broken("recycling", f"recycled at {age:.1f} s, {event.updates:.0f} updates", view.key)
            return
        if done:
            self.tallies["recycled"] += 1
            self._stops(view, "start", f"recycled after {value:.0f}{word}", now)

    def _last_words(self, view: View, event: events.LastWords, now: float) -> None:
        if view.lives:
            view.said, view.said_why = event.failure, event.reason

    def _misbehaved(self, view: View, event: events.Misbehaved, now: float) -> None:
        if view.lives:
            view.judged, view.hard, view.reason = True, KILL, event.reason
            view.said, view.said_why = Failure.PROTOCOL, event.reason
            self._owes(view, now, view.policy.kill_timeout)
            self._does(view, Kill())

    def _hearing(self, view: View, event: events.Hearing, now: float) -> None:
        if not view.lives or not view.ready or view.paused:
            return
        if not event.deaf:
            view.deaf = ""
        elif view.deaf:
            view.said, view.said_why = Failure.DEAF, event.reason or "it takes no updates"
            self._stops(view, "fail", view.said_why, now)
        else:
            view.deaf = event.reason or "it takes no updates"
            if not view.degraded:
                view.reason = view.deaf
            view.degraded = True

    def _due(self, view: View, event: events.Due, now: float) -> None:
        if view.due is None or view.due > now + EPSILON:
            self.broken("deadlines", f"{view.shown()}: judged at {now:.3f}, its time is {view.due}", view.key)
        policy = view.policy
        if not view.process:
            view.due = None
            if view.paced and self.fuse.stage != "closed" and view.key not in self.fuse.own:
                self._holds(view)
            else:
                view.queued = True
                if view.paced:
                    self.queue.ask(view.key)
                else:
                    self._starts(view, now)
        elif view.judged or view.hard >= TERM:
            view.hard = KILL
            self._owes(view, now, policy.kill_timeout)
            self._does(view, Kill())
        elif view.ending:
            view.hard = TERM
            self._owes(view, now, policy.term_timeout)
            self._does(view, Terminate())
        elif view.process == ASKED:
            self._owes(view, now, policy.ready_timeout)  # whoever makes processes will tell
        else:
            silent = view.ready or view.paused
            process = self.living.get(view.key)
            # One look into the pipe is all it gets; a heartbeat behind more reports than that look takes is not heard.
            heard = process is not None and not process.pipe and not process.hung_up
            beat_at = process.last_beat if process is not None and heard else None
            if silent and beat_at is not None and now < beat_at + view.due_most - EPSILON:
                self.broken("nobody in time", f"beat at {beat_at:.3f}, condemned at {now:.3f}", view.key)
            if silent:
                why = f"no heartbeat for {policy.heartbeat_timeout:g} s"
            else:
                why = f"not ready within {policy.ready_timeout:g} s" + (f" ({view.reason})" if view.reason else "")
            self._condemn(view, Failure.HANG if silent else Failure.NOT_READY, why)
            self._owes(view, now, policy.dump_timeout)
            self._does(view, DumpStacks())
            self.tallies["condemned"] += 1

    @staticmethod
    def _condemn(view: View, failure: Failure, why: str) -> None:
        """Judged; what it has said itself of its end says more."""
        view.judged, view.hard, view.reason = True, NOT, why
        view.said = view.said or failure
        view.said_why = view.said_why or why
