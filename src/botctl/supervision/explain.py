"""Words for an operator: what an incarnation ended of, and what was done about it. Pure."""

from __future__ import annotations

import signal

from botctl.supervision.model import AfterStop, Exit, Record, State


def cause(before: Record, after: Record, ending: Exit | None) -> str:
    """What the incarnation ended of, in one sentence. `ending` None: there was no process."""
    if after.state in (State.BACKOFF, State.QUARANTINED) and before.after_stop is not AfterStop.QUARANTINE:
        told = after.cause
    elif before.state is State.STOPPING:
        told = before.reason
    else:
        told = after.cause or after.reason
    how = described(ending) if ending is not None else ""
    if not told or (ending is not None and told == str(ending)):
        return how or "it never started"
    return told


def described(ending: Exit) -> str:
    """How a process ended, in words."""
    if ending.oom:
        return "killed by the kernel, which had run out of memory"
    if ending.signal is not None:
        try:
            name = signal.Signals(ending.signal).name
        except ValueError:
            name = f"signal {ending.signal}"
        return f"killed by {name}"
    return f"ended with exit code {ending.code}" if ending.code is not None else "vanished"


def action(after: Record, now: float) -> str:
    """What was done about the end of an incarnation."""
    match after.state:
        case State.BACKOFF:
            pause = _pause(after.deadline, now)
            row = f", failure {after.consecutive} in a row" if after.consecutive > 1 else ""
            limit = after.policy.intensity
            counted = f", {len(after.failures)} of at most {limit} within {after.policy.period:g} s" if limit else ""
            return pause + row + (counted if after.failures else "")
        case State.QUARANTINED:
            return "quarantined" if after.shut_away else f"quarantined: {after.reason}"
        case State.CONFIGURED | State.STARTING:
            return "started again"
        case _:
            return "left stopped"


def _pause(deadline: float | None, now: float) -> str:
    if deadline is None:
        return "held back"
    return f"next start after {deadline - now:.2g} s" if deadline > now else "next start at once"
