"""Cells of a child that has a process and is meant to have it: getting ready, being well, being judged."""

from __future__ import annotations

from botctl.supervision.actions import DumpStacks, Kill
from botctl.supervision.backoff import about
from botctl.supervision.cells.ending import drain
from botctl.supervision.cells.step import Step, moved
from botctl.supervision.events import Beat, BecameReady, Due, Hearing, LastWords, Misbehaved, Spawned, Stalled
from botctl.supervision.model import AfterStop, Escalation, Failure, Health, Record, State


def note_pid(record: Record, event: Spawned, now: float) -> Step:
    """The process exists; from now on it has its time to get ready."""
    return Step(record.but(pid=event.pid, deadline=now + record.policy.ready_timeout))


def note_last_words(record: Record, event: LastWords, now: float) -> Step:
    """Remember what it will die of, for when it has."""
    return Step(record.but(last_words=event.failure, last_detail=event.reason))


def ready(record: Record, event: BecameReady, now: float) -> Step:
    """It does its job."""
    state = State.DEGRADED if record.deaf else State.RUNNING
    deadline = _next_beat(record, now)
    return Step(record.enter(state, now, record.deaf, ready=True, ready_at=now, been_ready=True, deadline=deadline))


def beat(record: Record, event: Beat, now: float) -> Step:
    """It lives; how well decides between running, degraded and paused. Too much memory, age or work: drain, recycle."""
    state = _mood(record, event)
    if state is State.STARTING:
        return _beat_before_ready(record, event, now)
    deadline = _next_beat(record, now)
    reason = "; ".join(part for part in (record.deaf, event.reason) if part)
    alive = (
        record.but(deadline=deadline, reason=reason)
        if state is record.state
        else record.enter(state, now, reason, deadline=deadline)
    )
    return _recycle(alive, event, now) or Step(alive)


def acquit(record: Record, event: Beat, now: float) -> Step:
    """It was judged silent, and beats after all: as long as nothing ends it yet, it goes on."""
    if record.last_words is not Failure.HANG or not record.ready or record.escalation is not Escalation.NONE:
        return Step(record)
    return beat(record.but(last_words=None, last_detail=""), event, now)


def deafness(record: Record, event: Hearing, now: float) -> Step:
    """Deaf once: degraded. Deaf again: drain and restart. It hears: forget it."""
    if not event.deaf:
        return Step(record.but(deaf=""))
    reason = event.reason or "it takes no updates"
    if record.deaf:
        return drain(record.but(last_words=Failure.DEAF, last_detail=reason), AfterStop.FAIL, reason, now)
    deaf = record.but(deaf=reason)
    if record.state is State.RUNNING:
        return Step(deaf.enter(State.DEGRADED, now, reason))
    return Step(deaf)


def never_ready(record: Record, event: Due, now: float) -> Step:
    """It took too long to become ready: have its stacks written, then kill it. Without a process it has more time."""
    if record.pid is None:  # who makes processes has a deadline of its own, and will tell
        return Step(record.but(deadline=now + record.policy.ready_timeout))
    said = f" ({record.reason})" if record.reason else ""
    return _condemn(record, Failure.NOT_READY, f"not ready within {record.policy.ready_timeout:g} s{said}", now)


def hung(record: Record, event: Due, now: float) -> Step:
    """Its event loop has been silent for too long: have its stacks written, then kill it."""
    timeout = record.policy.heartbeat_timeout or 0.0
    return _condemn(record, Failure.HANG, f"no heartbeat for {timeout:g} s", now)


def give_time_to_start(record: Record, event: Stalled, now: float) -> Step:
    """The time during which nobody could listen does not count; it has at most its whole time again."""
    return moved(record, event.seconds, now + record.policy.ready_timeout)


def give_time_to_beat(record: Record, event: Stalled, now: float) -> Step:
    """The time during which nobody could listen does not count; it has at most its whole time again."""
    return moved(record, event.seconds, now + (record.policy.heartbeat_timeout or 0.0))


def misbehaved(record: Record, event: Misbehaved, now: float) -> Step:
    """It broke the protocol: it is taken over, or broken beyond talking to."""
    return Step(
        record.enter(
            State.FAILED,
            now,
            event.reason,
            last_words=Failure.PROTOCOL,
            last_detail=event.reason,
            escalation=Escalation.KILL,
            deadline=now + record.policy.kill_timeout,
        ),
        (Kill(),),
    )


def _mood(record: Record, event: Beat) -> State:
    if event.health is Health.PAUSED:
        return State.PAUSED
    if not record.ready:
        return State.STARTING
    return State.DEGRADED if event.health is Health.DEGRADED or record.deaf else State.RUNNING


def _beat_before_ready(record: Record, event: Beat, now: float) -> Step:
    late = now + record.policy.ready_timeout
    if record.state is not State.STARTING:
        return Step(record.enter(State.STARTING, now, event.reason, deadline=late))
    # Alive, and it says what keeps it from getting ready: a restart would not help.
    return Step(record.but(reason=event.reason, deadline=late if event.health is Health.DEGRADED else record.deadline))


def _recycle(record: Record, event: Beat, now: float) -> Step | None:
    policy = record.policy
    if policy.memory_soft and event.memory > policy.memory_soft:
        reason = f"{event.memory:.0f} MB of memory, {policy.memory_soft:.0f} MB allowed"
        condemned = record.but(last_words=Failure.MEMORY, last_detail=reason)
        return drain(condemned, AfterStop.FAIL, reason, now)
    if record.state is State.PAUSED or not (policy.max_age or policy.max_updates):
        return None  # one that is paused is not well, and would not be by a restart
    if record.ready_at is None or now - record.ready_at < policy.period:
        return None  # whatever it says of its work, it isn't started anew more often than that
    spread = about(record.key, record.incarnation)
    if policy.max_age and record.started_at is not None and now - record.started_at >= policy.max_age * spread:
        return drain(record, AfterStop.START, f"recycled after {now - record.started_at:.0f} s", now)
    if policy.max_updates and event.updates >= policy.max_updates * spread:
        return drain(record, AfterStop.START, f"recycled after {event.updates:.0f} updates", now)
    return None


def _condemn(record: Record, failure: Failure, reason: str, now: float) -> Step:
    said = record.last_words is not None  # it has told what it dies of, and did not come to its end
    return Step(
        record.enter(
            State.FAILED,
            now,
            reason,
            last_words=record.last_words if said else failure,
            last_detail=record.last_detail or reason,
            deadline=now + record.policy.dump_timeout,
        ),
        (DumpStacks(),),
    )


def _next_beat(record: Record, now: float) -> float | None:
    timeout = record.policy.heartbeat_timeout
    return None if timeout is None else now + timeout
