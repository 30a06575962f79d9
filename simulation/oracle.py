"""Watches what is fed to supervision and what comes of it, and says when a promise is broken.

It keeps an account of its own (`account`, `endings`, `rules`) and compares (`verifier`). Where a rule leaves a choice
(a delay within its bounds, a recycling give or take a tenth) the choice is taken from what was seen, once checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from botctl.supervision import events
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import Policy, Record, State
from botctl.supervision.reconcile import Wanted
from simulation.account import EPSILON
from simulation.verifier import Verifier
from simulation.view import View

if TYPE_CHECKING:
    from simulation.orders import Command
    from simulation.process import Process
    from simulation.profiles import Setting

SLACK = 3.0
"""Seconds by which the turns of the loop that a stop needs may be late in all."""


class Oracle(Verifier):
    """One for a schedule. `tale`, if it is given, gets a line for everything."""

    def __init__(self, machine: FleetMachine, setting: Setting, tale: list[str] | None = None) -> None:
        super().__init__(machine, setting)
        self.tale = tale
        self._fleet: dict[int, Wanted] = {}

    # --- what is told ----------------------------------------------------------------------------------------------

    def added(self, key: int, policy: Policy, record: Record, *, paced: bool) -> None:
        """A child is put on the books."""
        if key in self.views:
            self.broken("forgotten", "added though it is on the books", key)
        number = self._numbers.get(key, 0)
        view = self.views[key] = View(key, policy, record, paced=paced, incarnation=number)
        if record.state is not State.CONFIGURED or record.incarnation != number:
            self.broken(
                "incarnations", f"starts as {record.state}, incarnation {record.incarnation} after {number}", key
            )
        self._check_record(view)

    def policy_set(self, key: int, policy: Policy, record: Record) -> None:
        """Another policy from now on."""
        view = self.views[key]
        view.policy = policy
        view.stops_by = None  # what was promised under the old policy is checked step by step
        if record.policy is not policy or self.machine.records[key] is not record:
            self.broken("policy", "the new policy is not in its record", key)
        view.record = record
        self._check_record(view)

    def fed(self, key: int, event: events.Event, now: float, changes: list[Change]) -> None:
        """An event was fed; these are the changes it made."""
        self.now = now
        if self.tale is not None:
            self._tell(key, event, changes)
        view = self.views.get(key)
        if view is None:
            if changes:
                self.broken("consistent changes", "changes of a child that is not on the books", key)
            return
        self._seen = changes
        self._apply(view, event, now)
        self._settle(now)
        self._compare(changes, now)

    def stalled(self, seconds: float, now: float, changes: list[Change]) -> None:
        """The loop was held up."""
        self.now = now
        if self.tale is not None:
            self._tell(None, events.Stalled(seconds), changes)
        for view in self.views.values():
            if view.process and view.due is not None:
                view.due = max(view.due, min(view.due + seconds, now + self._whole(view)))
        self._compare(changes, now)

    def elapsed(self, now: float, changes: list[Change]) -> None:
        """Time has passed for turns and breaker; nobody may be overdue now."""
        self.now = now
        if not changes and now < self._soonest and not self.queue.waiting and self.fuse.stage == "closed":
            return
        if changes and self.tale is not None:
            self._tell(None, None, changes)
        for key in self.fuse.lets_go(now):
            view = self.views[key]
            view.waits, view.queued = "delay", True
            self.queue.ask(key)
        self._settle(now)
        self._compare(changes, now)
        if now >= self._soonest:
            self._soonest = self._next_due()
            if self._soonest <= now:
                late = next(view for view in self.views.values() if view.due == self._soonest)
                self.broken(
                    "deadlines", f"{late.shown()}: due at {late.due:.3f} and nothing was done by {now:.3f}", late.key
                )
            if self.pending:
                self._soonest = 0.0  # to be looked for anew

    def _next_due(self) -> float:
        """The next deadline of those that aren't about to be seen to."""
        views, pending = self.views.values(), self.pending
        return min((view.due for view in views if view.due is not None and view.key not in pending), default=1e18)

    def looks(self, look: float | None, now: float) -> None:
        """When supervision wants to be asked again: not later than something is due."""
        soonest = self._soonest
        if self.fuse.stage != "closed":
            soonest = min(soonest, self.fuse.until)
        turn = self.queue.next_at()
        if turn is not None and turn < soonest:
            soonest = turn
        if soonest >= 1e17 or (look is not None and look <= soonest + EPSILON):
            return
        soonest = self._soonest = self._next_due()
        if self.fuse.stage != "closed":
            soonest = min(soonest, self.fuse.until)
        if turn is not None:
            soonest = min(soonest, turn)
        if soonest < 1e17 and (look is None or look > soonest + EPSILON):
            self.broken("next look", f"wants to be asked at {look}, but something is due at {soonest:.3f}")

    def dismissed(self, key: int, reason: str, now: float, changes: list[Change]) -> None:
        """A child shall stop and be forgotten."""
        self.views[key].leaving = True
        self.views[key].wish = "rest"
        self.fed(key, events.Unwant(reason), now, changes)

    def desired(self, fleet: Mapping[int, Wanted], now: float, changes: list[Change]) -> None:
        """The wanted fleet; works out by itself what that means for each bot."""
        self.now = now
        if self.tale is not None:
            told = ", ".join(f"{key}:{one.digest}{'' if one.enabled else ' off'}" for key, one in fleet.items())
            self._tell(None, None, changes, f"the wanted fleet: {told}")
        self._seen = changes
        before, self._fleet = self._fleet, dict(fleet)
        for key, one in fleet.items():
            view, old = self.views[key], before.get(key)
            view.leaving = False
            event: events.Event | None = None
            if not one.enabled:
                if old is None or old.enabled or view.wanted:
                    event, view.wish = events.Unwant("disabled in the fleet file"), "rest"
            elif old is None or not old.enabled:
                event, view.wish = events.Want(), "run"
            elif old.digest != one.digest:
                if view.shut == "failures" and not view.process:
                    event = events.Release()
                elif view.wanted:
                    event = events.Restart("configuration changed")
                    if not (view.shut or (view.ending and view.afterwards == "quarantine")):
                        view.newer_than = view.incarnation
            if event is not None:
                self._apply(view, event, now)
                self._settle(now)
        for key in before:
            if key not in fleet:
                view = self.views[key]
                view.leaving, view.wish = True, "rest"
                self._apply(view, events.Unwant("removed from the fleet"), now)
                self._settle(now)
        self._compare(changes, now)

    def commanded(self, verb: str, key: int, *, refused: bool, text: str | None) -> None:
        """An operator's command for one bot was taken, or refused."""
        view = self.views[key]
        quarantined = not view.process and bool(view.shut)
        if refused is not (quarantined and verb in ("start", "restart")):
            self.broken("commands", f"{verb} {'refused' if refused else 'accepted'} in {view.shown()}", key)
        if refused and not text:
            self.broken("commands", f"{verb} refused without a word", key)

    def commanded_all(self, verb: str, concerned: list[int], keys: list[int]) -> None:
        """A command for the whole fleet, and those whom it was found to concern."""
        for key in keys:
            view, one = self.views[key], self._fleet.get(key)
            meant = True
            if verb == "start":
                meant = one is None or one.enabled
            elif verb == "restart":
                meant = view.wanted
            if meant is not (key in concerned):
                self.broken("commands", f"{verb} of all: {'not ' if meant else ''}done with it", key)

    def meant(self, command: Command, event: events.Event) -> None:
        """What a command means as an event; notes what has been promised by it."""
        verb = command.verb
        wanted = {
            "start": events.Want,
            "stop": events.Unwant,
            "restart": events.Restart,
            "release": events.Release,
            "quarantine": events.Quarantine,
        }[verb]
        reason = getattr(event, "reason", None)
        if type(event) is not wanted or (reason is not None and (not reason or command.reason not in reason)):
            self.broken("commands", f"{verb} {command.reason!r} means {event}")

    def wished(self, key: int, verb: str) -> None:
        """Note what an accepted command promises; called before it is fed."""
        view = self.views[key]
        shut = bool(view.shut) or (view.ending and view.afterwards == "quarantine")
        if verb == "start":
            view.wish = "run"
        elif verb == "stop":
            view.wish = "rest"
        elif verb == "restart" and not (view.shut and not view.process):
            view.wish = "run"
            if not shut:
                view.newer_than = view.incarnation

    def ends(self, key: int, before: list[int]) -> None:
        """It is ended because the daemon ends; these have to be gone by then."""
        for one in before:
            if self.views[one].process:
                self.broken("shutdown", f"{key} is told to end while {one} is {self.views[one].shown()}", key)

    def restart_for_limits(self, key: int) -> None:
        """It is restarted for its limits."""
        self.wished(key, "restart")

    # --- processes -------------------------------------------------------------------------------------------------

    def born(self, process: Process, other: Process | None) -> None:
        """A process has come to be."""
        if other is not None:
            self.broken(
                "one process", f"incarnation {process.incarnation} while {other.incarnation} lives", process.key
            )
        view = self.views.get(process.key)
        if view is None or view.incarnation != process.incarnation:
            self.broken("one process", f"a process of incarnation {process.incarnation}", process.key)

    def died(self, process: Process, now: float) -> None:
        """A process is gone; whether it had outstayed its time is looked at."""
        view = self.views.get(process.key)
        if view is None:
            self.broken("forgotten", "forgotten though it had a process", process.key)
        if view.stops_by is not None and now > view.stops_by + process.kill_time + SLACK:
            self.broken("stop in time", f"gone at {now:.3f}, due at {view.stops_by:.3f}", process.key)

    def held_up(self, seconds: float) -> None:
        """The loop did nothing for so long, whether it knows or not."""
        for view in self.views.values():
            if view.stops_by is not None:
                view.stops_by += seconds

    def _tell(self, key: int | None, event: object, changes: list[Change], told: str = "") -> None:
        assert self.tale is not None
        head = told or ("" if event is None else str(event))
        if key is not None and key in self.views:
            head = f"{key} {self.views[key].seen.value}: {head}"
        self.tale.append(f"{self.now:12.4f}  {head}")
        for change in changes:
            actions = ", ".join(map(str, change.actions))
            more = (f"  {actions}" if actions else "") + ("  forgotten" if change.forgotten else "")
            if change.before.state is not change.after.state or more:
                self.tale.append(
                    f"{'':14}{change.key} #{change.after.incarnation} {change.before.state.value} -> "
                    f"{change.after.state.value} ({change.after.reason}){more}"
                )
