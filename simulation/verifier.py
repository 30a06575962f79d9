"""What was seen against what must be: the changes, the actions, the records, the queue and the breaker."""

from __future__ import annotations

from botctl.supervision import events
from botctl.supervision.actions import Action
from botctl.supervision.fleet_machine import Change
from botctl.supervision.model import AfterStop, Escalation, State
from simulation.account import EPSILON
from simulation.rules import Rules
from simulation.view import KILL, NOT, TERM, TOLD, View

NEEDS_REASON = frozenset({State.FAILED, State.BACKOFF, State.QUARANTINED})
_AFTER = {
    "stay": AfterStop.STAY,
    "start": AfterStop.START,
    "quarantine": AfterStop.QUARANTINE,
    "fail": AfterStop.FAIL,
}
_HARD = {NOT: Escalation.NONE, TOLD: Escalation.ASKED, TERM: Escalation.TERM, KILL: Escalation.KILL}

_FIELDS = {
    "pid": "pid",
    "wanted": "wanted",
    "incarnation": "incarnation",
    "restarts": "restarts",
    "ready": "ready",
    "ready_at": "ready_at",
    "been_ready": "been_ready",
    "started_at": "started_at",
    "since": "since",
    "deaf": "deaf",
    "last_failure": "last_failure",
    "previous_failure": "previous",
    "consecutive": "row",
    "failures": "failures",
    "policy": "policy",
    "cause": "cause",
    "last_words": "said",
    "last_detail": "said_why",
}
"""Of a record, and where a view has it."""


class Verifier(Rules):
    """Compares."""

    def _compare(self, changes: list[Change], now: float) -> None:
        expected = self._expected
        if not changes:
            if expected:
                self._expected = {}
                key = next(iter(expected))
                self.broken("actions", f"nothing was done, though {self._words(expected)} was due", key)
            return
        views = self.views
        if len(changes) == 1 and not expected:
            change = changes[0]
            if not change.actions and not change.forgotten and change.after.state is change.before.state:
                self._compare_quiet(change)
                return
        done: dict[int, list[Action]] = {}
        last = 0
        for change in changes:
            key = change.key
            if key == last and type(change.event) is events.Admitted:
                self.broken("consistent changes", "a state without a stay is shown", key)
            last = key
            view = views.get(key)
            if view is None:
                self.broken("consistent changes", "a change of a child that is not on the books", key)
            if change.before is not view.record:
                self.broken(
                    "consistent changes", f"{change.before.state} before, {view.record.state} after the last", key
                )
            if change.after is change.before and not change.actions and not change.forgotten:
                self.broken("consistent changes", "a change that changes nothing", key)
            view.record = change.after
            if change.actions:
                done.setdefault(key, []).extend(change.actions)
            if change.forgotten:
                if not view.leaving or view.process:
                    self.broken("forgotten", f"forgotten in {view.shown()}", key)
                if key in self.machine.records:
                    self.broken("forgotten", "said to be forgotten, but still on the books", key)
                del views[key]
            elif view.leaving and not view.process and not any(one.forgotten and one.key == key for one in changes):
                self.broken("forgotten", f"not forgotten in {change.after.state}", key)
        if done != expected:
            self._expected = {}
            self.broken("actions", f"did {self._words(done)}; {self._words(expected)} was due", None)
        if expected:
            self._expected = {}
        for change in changes:
            found = views.get(change.key)
            if found is not None:
                if self.machine.records[change.key] is not found.record:
                    self.broken("consistent changes", "the record is not the one of the last change", change.key)
                self._check_record(found)
        machine, fuse = self.machine, self.fuse
        if machine.breaker.state.value != fuse.stage or machine.breaker.held != len(fuse.held):
            self.broken(
                "breaker",
                f"{machine.breaker.state.value} with {machine.breaker.held} held, "
                f"must be {fuse.stage} with {len(fuse.held)}",
            )
        if machine.breaker.reason != fuse.reason or machine.breaker.closed is not (fuse.stage == "closed"):
            self.broken("breaker", f"{fuse.stage}, and says {machine.breaker.reason!r} instead of {fuse.reason!r}")
        if machine.turns.taken != len(self.queue.starting) or machine.turns.waiting != len(self.queue.waiting):
            self.broken(
                "turns",
                f"{machine.turns.taken} have a turn and {machine.turns.waiting} wait, "
                f"must be {len(self.queue.starting)} and {len(self.queue.waiting)}",
            )

    def _compare_quiet(self, change: Change) -> None:
        """A change without a new state and without actions, most often a heartbeat."""
        view = self.views.get(change.key)
        if view is None or change.before is not view.record:
            self.broken("consistent changes", "before is not what the last change left", change.key)
        after = view.record = change.after
        if after is change.before:
            self.broken("consistent changes", "a change that changes nothing", change.key)
        if view.leaving and not view.process:
            self.broken("forgotten", f"not forgotten in {after.state}", change.key)
        if self.machine.records[change.key] is not after:
            self.broken("consistent changes", "the record is not the one of the last change", change.key)
        if (
            type(change.event) is not events.Beat
            or after.state is not view.seen
            or after.deadline != view.due
            or after.reason != view.reason
        ):
            self._check_record(view)

    def _check_record(self, view: View) -> None:
        record, shown = view.record, view.shown()
        if record.state is not shown:
            self.broken("state", f"{record.state} is shown, it is {shown}", view.key)
        if record.reason != view.reason:
            self.broken("reasons", f"{record.state} because of {record.reason!r}, it was {view.reason!r}", view.key)
        if shown in NEEDS_REASON and not record.reason:
            self.broken("reasons", f"{shown} without a reason", view.key)
        if record.deadline != view.due and not (
            record.deadline is not None and view.due is not None and abs(record.deadline - view.due) < EPSILON
        ):
            self.broken("deadlines", f"{shown}: due at {record.deadline}, must be at {view.due}", view.key)
        if (
            record.pid != view.pid
            or record.wanted is not view.wanted
            or record.incarnation != view.incarnation
            or record.restarts != view.restarts
            or record.ready is not view.ready
            or record.ready_at != view.ready_at
            or record.been_ready is not view.been_ready
            or record.last_failure is not view.last_failure
            or record.previous_failure is not view.previous
            or record.consecutive != view.row
            or record.failures != tuple(view.failures)
            or record.policy is not view.policy
            or record.since != view.since
            or record.cause != view.cause
            or record.last_words is not view.said
            or record.last_detail != view.said_why
        ):
            self.broken("record", f"{shown}: {self._differences(view)}", view.key)
        if view.process:
            if record.deadline is None and record.policy.heartbeat_timeout is not None:
                self.broken("deadlines", f"{shown} without a deadline", view.key)
            if record.started_at != view.started_at or record.deaf != view.deaf:
                self.broken("record", f"{shown}: {self._differences(view)}", view.key)
            if view.ending:
                if record.after_stop is not _AFTER[view.afterwards] or record.escalation is not _HARD[view.hard]:
                    self.broken("record", f"stopping: {record.after_stop}, {record.escalation}", view.key)
            elif record.escalation is not _HARD[view.hard]:
                self.broken("record", f"{shown}: {record.escalation}", view.key)
            if not view.ending and record.after_stop is not AfterStop.STAY:
                self.broken("record", f"{shown}: {record.after_stop} is to follow", view.key)
        else:
            if (shown is State.BACKOFF or view.shut == "failures") and not record.cause:
                self.broken("reasons", f"{shown} without a cause", view.key)
            if record.escalation is not Escalation.NONE:
                self.broken("record", f"{shown} and still {record.escalation}", view.key)
        if record.shut_away is not (view.shut == "wish" or (view.ending and view.afterwards == "quarantine")):
            self.broken("record", f"{shown}: shut away {record.shut_away}", view.key)

    @staticmethod
    def _differences(view: View) -> str:
        """Which fields of the record are not as they must be."""
        found = []
        for field, name in _FIELDS.items():
            is_, must = getattr(view.record, field), getattr(view, name)
            if is_ != (tuple(must) if isinstance(must, list) else must):
                found.append(f"{field} is {is_!r}, must be {must!r}")
        return "; ".join(found)

    @staticmethod
    def _words(actions: dict[int, list[Action]]) -> str:
        return "; ".join(f"{key}: {', '.join(map(str, all_))}" for key, all_ in actions.items()) or "nothing"
