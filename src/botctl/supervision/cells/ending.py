"""Cells of a process that ends: asked to, made to, or by itself; and what follows when it has gone."""

from __future__ import annotations

from botctl.supervision.actions import AskStop, Kill, Terminate
from botctl.supervision.backoff import delay, within
from botctl.supervision.cells.resting import queue_up
from botctl.supervision.cells.step import Step, moved
from botctl.supervision.events import (
    Due,
    Exited,
    Quarantine,
    Release,
    Restart,
    Spawned,
    SpawnFailed,
    Stalled,
    Unwant,
    Want,
)
from botctl.supervision.failures import TREATMENT
from botctl.supervision.model import AfterStop, Escalation, Exit, Failure, Record, State

FROM_OUTSIDE = frozenset({1, 2, 9, 15})
"""HUP, INT, KILL, TERM: signals that no process sends itself by a fault of its own."""


AT_ONCE_AFTER = 1.0
"""Seconds: a child that has been ready for so long and is killed from outside is started again without a delay, as one
that fails after having been stable is. Sooner than that, kills come in a row, and the delay keeps them apart."""


def stop(record: Record, event: Unwant, now: float) -> Step:
    """Ask it to drain and end."""
    return drain(record.but(wanted=False), AfterStop.STAY, event.reason, now)


def stop_and_start(record: Record, event: Restart, now: float) -> Step:
    """Ask it to drain and end, then start anew."""
    return drain(record, AfterStop.START, event.reason, now)


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


def start_after_stop(record: Record, event: Want | Restart, now: float) -> Step:
    """Wanted again while stopping: it starts when the old process has gone. A failure is judged first."""
    judged = record.after_stop is AfterStop.FAIL and isinstance(event, Want)
    if judged or record.after_stop is AfterStop.QUARANTINE:
        return Step(record.but(wanted=True))
    return Step(record.but(wanted=True, after_stop=AfterStop.START))


def stay_after_stop(record: Record, event: Unwant, now: float) -> Step:
    """Unwanted while stopping for a restart: it stays stopped."""
    if record.after_stop is AfterStop.QUARANTINE:
        return Step(record.but(wanted=False))
    return Step(record.but(wanted=False, after_stop=AfterStop.STAY, reason=event.reason))


def release_after_stop(record: Record, event: Release, now: float) -> Step:
    """Released before it was shut away: it starts when the old process has gone, if it is wanted."""
    if record.after_stop is not AfterStop.QUARANTINE:
        return Step(record)
    after = AfterStop.START if record.wanted else AfterStop.STAY
    return Step(record.but(after_stop=after, shut_away=False, failures=(), consecutive=0, reason="released"))


def note_pid_and_end(record: Record, event: Spawned, now: float) -> Step:
    """The process came up after it had been decided to end it; whatever was asked before reached nobody."""
    known = record.but(pid=event.pid)
    if record.escalation is Escalation.KILL:
        return Step(known, (Kill(),))
    if record.escalation is Escalation.TERM:
        return Step(known, (Terminate(),))
    return Step(known, (AskStop(record.policy.stop_timeout),))


def note_pid_of_condemned(record: Record, event: Spawned, now: float) -> Step:
    """The process came up after it had been judged: it ends at once."""
    return Step(record.but(pid=event.pid), (Kill(),))


def end_unwanted(record: Record, event: Unwant, now: float) -> Step:
    """Nobody wants what has been judged, so nothing more is waited for."""
    return _end_at_once(record.but(wanted=False), now)


def end_for_restart(record: Record, event: Restart, now: float) -> Step:
    """The next incarnation is wished for, so nothing more is waited for."""
    return _end_at_once(record.but(wanted=True), now)


def escalate(record: Record, event: Due, now: float) -> Step:
    """It did not end in time: TERM, then KILL, again and again."""
    if record.escalation is Escalation.ASKED:
        later = now + record.policy.term_timeout
        return Step(record.but(escalation=Escalation.TERM, deadline=later), (Terminate(),))
    later = now + record.policy.kill_timeout
    return Step(record.but(escalation=Escalation.KILL, deadline=later), (Kill(),))


def give_time_to_end(record: Record, event: Stalled, now: float) -> Step:
    """The time during which nobody could see it end does not count; it has at most its whole time again."""
    policy = record.policy
    whole = {
        Escalation.NONE: policy.dump_timeout,
        Escalation.ASKED: policy.stop_timeout,
        Escalation.TERM: policy.term_timeout,
        Escalation.KILL: policy.kill_timeout,
    }
    return moved(record, event.seconds, now + whole[record.escalation])


def stopped(record: Record, event: Exited | SpawnFailed, now: float) -> Step:
    """A stopping process has ended; do what was to follow."""
    if record.after_stop is AfterStop.FAIL:
        return _after_failure(record, record.last_words or Failure.CRASH, record.last_detail, now)
    gone = record.but(
        pid=None,
        escalation=Escalation.NONE,
        deadline=None,
        ready=False,
        ready_at=None,
        last_words=None,
        last_detail="",
        previous_failure=None,
    )
    match record.after_stop:
        case AfterStop.START:
            return queue_up(gone.but(restarts=record.restarts + 1), now)
        case AfterStop.QUARANTINE:
            return Step(gone.enter(State.QUARANTINED, now, record.reason))
        case _:
            return Step(gone.enter(State.STOPPED, now, record.reason))


def failed(record: Record, event: Exited, now: float) -> Step:
    """The process ended though nobody asked it to."""
    cause = record.last_detail or str(event.exit)
    return _after_failure(record, record.last_words or class_of(event.exit), cause, now)


def failed_to_spawn(record: Record, event: SpawnFailed, now: float) -> Step:
    """There was no process to begin with."""
    return _after_failure(record, Failure.SPAWN, event.reason, now)


def condemned_gone(record: Record, event: Exited | SpawnFailed, now: float) -> Step:
    """A condemned process has ended."""
    return _after_failure(record, record.last_words or Failure.CRASH, record.last_detail, now)


def drain(record: Record, after: AfterStop, reason: str, now: float) -> Step:
    """Ask it to drain and end; `after` says what follows."""
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


def class_of(ending: Exit) -> Failure:
    """What class of failure an unexpected end is, when the child said nothing."""
    if ending.oom:
        return Failure.OOM
    if ending.signal is not None:
        return Failure.SIGNAL if ending.signal in FROM_OUTSIDE else Failure.CRASH
    return Failure.EXIT if ending.code == 0 else Failure.CRASH


def _end_at_once(record: Record, now: float) -> Step:
    if record.escalation is Escalation.KILL:
        return Step(record)
    return Step(record.but(escalation=Escalation.KILL, deadline=now + record.policy.kill_timeout), (Kill(),))


def _after_failure(record: Record, failure: Failure, cause: str, now: float) -> Step:
    policy = record.policy
    treatment = TREATMENT[failure]
    ready_for = now - record.ready_at if record.ready_at is not None else 0.0
    stable = record.ready_at is not None and ready_for >= policy.period
    at_once = stable or (record.ready and not treatment.counted and ready_for >= AT_ONCE_AFTER)
    failures = (*within(record.failures, now, policy.period), now) if treatment.counted else record.failures
    consecutive = 1 if at_once else record.consecutive + 1
    gone = record.but(
        pid=None,
        ready=False,
        ready_at=None,
        escalation=Escalation.NONE,
        last_words=None,
        last_detail="",
        last_failure=failure,
        previous_failure=failure,
        cause=cause,
        failures=failures,
        consecutive=consecutive,
        deadline=None,
    )
    if treatment.hopeless:
        return Step(gone.enter(State.QUARANTINED, now, cause))
    if not gone.wanted:
        return Step(gone.enter(State.STOPPED, now, cause))
    if treatment.counted and policy.intensity is not None and len(failures) > policy.intensity:
        often = f"{len(failures)} failures within {policy.period:g} s, the last: {cause}"
        return Step(gone.enter(State.QUARANTINED, now, often))
    first = 0.0 if at_once else policy.first_delay
    pause = delay(first, policy.max_delay, consecutive, key=record.key, turn=record.incarnation)
    return Step(gone.enter(State.BACKOFF, now, cause, deadline=now + pause))
