"""What the cells of the state machine do: one small function for each meaning that an event can have in a state. Pure.

Which cell holds which is decided by the table in `machine`.
"""

from __future__ import annotations

from typing import NamedTuple

from botctl.supervision.actions import Action, AskStop, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.backoff import delay, within
from botctl.supervision.events import (
    Beat,
    BecameReady,
    Due,
    Event,
    Exited,
    LastWords,
    Misbehaved,
    Quarantine,
    Release,
    Restart,
    Spawned,
    SpawnFailed,
    Unwant,
    Want,
)
from botctl.supervision.model import (
    HOPELESS,
    NOT_COUNTED,
    AfterStop,
    Escalation,
    Exit,
    Failure,
    Health,
    Record,
    State,
)


class Step(NamedTuple):
    """The outcome of one event."""

    record: Record
    actions: tuple[Action, ...] = ()


def ignore(record: Record, event: Event, now: float) -> Step:
    """Nothing to do: already so, or a late report of an incarnation that is gone."""
    return Step(record)


def start(record: Record, event: Event, now: float) -> Step:
    """Make a process."""
    return _start(record.but(wanted=True), now)


def restart_from_rest(record: Record, event: Restart, now: float) -> Step:
    """An operator's restart of a child without a process starts it now, whatever its delay."""
    return _start(record.but(wanted=True, consecutive=0), now)


def rest(record: Record, event: Unwant, now: float) -> Step:
    """No process and none wanted."""
    return Step(record.enter(State.STOPPED, now, event.reason, wanted=False, deadline=None))


def shut_away(record: Record, event: Quarantine, now: float) -> Step:
    """Quarantine a child that has no process."""
    return Step(record.enter(State.QUARANTINED, now, event.reason, deadline=None, shut_away=True))


def release(record: Record, event: Release, now: float) -> Step:
    """Forget the failures; start if wanted."""
    cleared = record.but(failures=(), consecutive=0, last_words=None, shut_away=False)
    return _start(cleared, now) if cleared.wanted else Step(cleared.enter(State.STOPPED, now, "released"))


def note_wanted(record: Record, event: Want, now: float) -> Step:
    """Wanted, but what it is in must end first."""
    return Step(record.but(wanted=True))


def note_unwanted(record: Record, event: Unwant, now: float) -> Step:
    """Unwanted; what is under way ends as it would, and nothing follows."""
    return Step(record.but(wanted=False))


def note_pid(record: Record, event: Spawned, now: float) -> Step:
    """The process has a pid."""
    return Step(record.but(pid=event.pid))


def note_pid_and_end(record: Record, event: Spawned, now: float) -> Step:
    """The process came up after it had been decided to end it; whatever was asked before reached nobody."""
    known = record.but(pid=event.pid)
    if record.escalation is Escalation.KILL:
        return Step(known, (Kill(),))
    if record.escalation is Escalation.TERM:
        return Step(known, (Terminate(),))
    return Step(known, (AskStop(record.policy.stop_timeout),))


def note_pid_of_condemned(record: Record, event: Spawned, now: float) -> Step:
    """The process came up after it had been judged; if its time is over, it ends at once."""
    known = record.but(pid=event.pid)
    return Step(known, (Kill(),) if record.escalation is Escalation.KILL else ())


def note_last_words(record: Record, event: LastWords, now: float) -> Step:
    """Remember what it will die of, for when it has."""
    return Step(record.but(last_words=event.failure, reason=event.reason))


def ready(record: Record, event: BecameReady, now: float) -> Step:
    """It does its job."""
    return Step(record.enter(State.RUNNING, now, ready=True, ready_at=now, deadline=_next_beat(record, now)))


def beat(record: Record, event: Beat, now: float) -> Step:
    """It lives; how well decides between running, degraded and paused."""
    deadline = _next_beat(record, now)
    match event.health:
        case Health.PAUSED:
            state = State.PAUSED
        case Health.DEGRADED if record.ready:
            state = State.DEGRADED
        case Health.OK if record.ready:
            state = State.RUNNING
        case _:
            state = State.STARTING
    if state is State.STARTING:
        if record.state is State.STARTING:
            # Alive, and it says what keeps it from getting ready: a restart would not help.
            late = now + record.policy.ready_timeout if event.health is Health.DEGRADED else record.deadline
            return Step(record.but(reason=event.reason, deadline=late))
        return Step(record.enter(state, now, event.reason, deadline=now + record.policy.ready_timeout))
    if state is record.state:
        return Step(record.but(deadline=deadline, reason=event.reason))
    return Step(record.enter(state, now, event.reason, deadline=deadline))


def stop(record: Record, event: Unwant, now: float) -> Step:
    """Ask it to drain and end."""
    return _stop(record.but(wanted=False), AfterStop.STAY, event.reason, now)


def stop_and_start(record: Record, event: Restart, now: float) -> Step:
    """Ask it to drain and end, then start anew."""
    return _stop(record.but(wanted=True), AfterStop.START, event.reason, now)


def kill_and_shut_away(record: Record, event: Quarantine, now: float) -> Step:
    """Quarantine a child that has a process: no draining."""
    return Step(
        record.enter(
            State.STOPPING,
            now,
            event.reason,
            after_stop=AfterStop.QUARANTINE,
            shut_away=True,
            escalation=Escalation.KILL,
            deadline=now + record.policy.kill_timeout,
        ),
        (Kill(),),
    )


def never_ready(record: Record, event: Due, now: float) -> Step:
    """It took too long to become ready."""
    reason = f"not ready within {record.policy.ready_timeout:g} s"
    return _condemn(record, Failure.NOT_READY, reason, now)


def hung(record: Record, event: Due, now: float) -> Step:
    """Its event loop has been silent for too long: have its stacks written, then kill it."""
    timeout = record.policy.heartbeat_timeout or 0.0
    return _condemn(record, Failure.HANG, f"no heartbeat for {timeout:g} s", now)


def misbehaved(record: Record, event: Misbehaved, now: float) -> Step:
    """It broke the protocol: it is taken over, or broken beyond talking to."""
    return Step(
        record.enter(
            State.FAILED,
            now,
            event.reason,
            last_words=Failure.PROTOCOL,
            escalation=Escalation.KILL,
            deadline=now + record.policy.kill_timeout,
        ),
        (Kill(),),
    )


def failed(record: Record, event: Exited, now: float) -> Step:
    """The process ended though nobody asked it to."""
    return _after_failure(record, record.last_words or _class_of(event.exit), record.reason or str(event.exit), now)


def failed_to_spawn(record: Record, event: SpawnFailed, now: float) -> Step:
    """There was no process to begin with."""
    return _after_failure(record, Failure.SPAWN, event.reason, now)


def condemned_gone(record: Record, event: Exited | SpawnFailed, now: float) -> Step:
    """A condemned process has ended."""
    return _after_failure(record, record.last_words or Failure.CRASH, record.reason, now)


def stopped(record: Record, event: Exited | SpawnFailed, now: float) -> Step:
    """A stopping process has ended; do what was to follow."""
    gone = record.but(
        pid=None, escalation=Escalation.NONE, deadline=None, ready=False, last_words=None, previous_failure=None
    )
    match record.after_stop:
        case AfterStop.START:
            return _start(gone.but(restarts=record.restarts + 1), now)
        case AfterStop.QUARANTINE:
            return Step(gone.enter(State.QUARANTINED, now, record.reason))
        case AfterStop.STAY:
            return Step(gone.enter(State.STOPPED, now, record.reason))


def start_after_stop(record: Record, event: Want | Restart, now: float) -> Step:
    """Wanted again while stopping: it starts when the old process has gone."""
    if record.after_stop is AfterStop.QUARANTINE:
        return Step(record.but(wanted=True))
    return Step(record.but(wanted=True, after_stop=AfterStop.START))


def stay_after_stop(record: Record, event: Unwant, now: float) -> Step:
    """Unwanted while stopping for a restart: it stays stopped."""
    if record.after_stop is AfterStop.QUARANTINE:
        return Step(record.but(wanted=False))
    return Step(record.but(wanted=False, after_stop=AfterStop.STAY, reason=event.reason))


def escalate(record: Record, event: Due, now: float) -> Step:
    """It did not end in time: TERM, then KILL, again and again."""
    if record.escalation is Escalation.ASKED:
        later = now + record.policy.term_timeout
        return Step(record.but(escalation=Escalation.TERM, deadline=later), (Terminate(),))
    later = now + record.policy.kill_timeout
    return Step(record.but(escalation=Escalation.KILL, deadline=later), (Kill(),))


# --- shared steps --------------------------------------------------------------------------------------------------


def _start(record: Record, now: float) -> Step:
    incarnation = record.incarnation + 1
    return Step(
        record.enter(
            State.STARTING,
            now,
            incarnation=incarnation,
            pid=None,
            ready=False,
            ready_at=None,
            started_at=now,
            last_words=None,
            escalation=Escalation.NONE,
            after_stop=AfterStop.STAY,
            deadline=now + record.policy.ready_timeout,
        ),
        (Spawn(incarnation),),
    )


def _stop(record: Record, after: AfterStop, reason: str, now: float) -> Step:
    return Step(
        record.enter(
            State.STOPPING,
            now,
            reason,
            after_stop=after,
            escalation=Escalation.ASKED,
            deadline=now + record.policy.stop_timeout,
        ),
        (AskStop(record.policy.stop_timeout),),
    )


def _condemn(record: Record, failure: Failure, reason: str, now: float) -> Step:
    return Step(
        record.enter(
            State.FAILED,
            now,
            reason,
            last_words=failure,
            escalation=Escalation.NONE,
            deadline=now + record.policy.dump_timeout,
        ),
        (DumpStacks(),),
    )


def _after_failure(record: Record, failure: Failure, reason: str, now: float) -> Step:
    policy = record.policy
    stable = record.ready_at is not None and now - record.ready_at >= policy.period
    was_ready = record.ready
    counted = failure not in NOT_COUNTED
    failures = (*within(record.failures, now, policy.period), now) if counted else record.failures
    consecutive = 1 if stable or (not counted and was_ready) else record.consecutive + 1
    gone = record.but(
        pid=None,
        ready=False,
        ready_at=None,
        escalation=Escalation.NONE,
        last_words=None,
        last_failure=failure,
        previous_failure=failure,
        failures=failures,
        consecutive=consecutive,
        deadline=None,
    )
    if failure in HOPELESS:
        return Step(gone.enter(State.QUARANTINED, now, reason))
    if not gone.wanted:
        return Step(gone.enter(State.STOPPED, now, reason))
    if policy.intensity is not None and len(failures) > policy.intensity:
        often = f"{len(failures)} failures within {policy.period:g} s, the last: {reason}"
        return Step(gone.enter(State.QUARANTINED, now, often))
    pause = delay(policy.first_delay, policy.max_delay, consecutive, key=record.key, turn=record.incarnation)
    return Step(gone.enter(State.BACKOFF, now, reason, deadline=now + pause))


def start_after_backoff(record: Record, event: Due, now: float) -> Step:
    """The delay is over."""
    return _start(record.but(restarts=record.restarts + 1), now)


def _class_of(ending: Exit) -> Failure:
    if ending.signal in (9, 15, 2, 1):
        return Failure.SIGNAL
    if ending.signal is not None:
        return Failure.CRASH
    return Failure.EXIT if ending.code == 0 else Failure.CRASH


def _next_beat(record: Record, now: float) -> float | None:
    timeout = record.policy.heartbeat_timeout
    return None if timeout is None else now + timeout
