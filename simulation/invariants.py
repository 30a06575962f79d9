"""What must hold in every schedule, by the name under which the oracle reports a breach."""

from __future__ import annotations

INVARIANTS: dict[str, str] = {
    "one process": "A bot never has two processes, nor one of an incarnation that nobody asked for.",
    "incarnations": "Incarnations count upwards, also over removal from the fleet and return.",
    "wanted bots run": (
        "Once the faults end, every wanted bot that isn't quarantined runs and goes on running, a restarted one as a "
        "newer incarnation; an unwanted one has no process; a quarantined one stays in quarantine until it is "
        "released."
    ),
    "commands": (
        "Commands mean what they say; `start` and `restart` of a quarantined bot, and nothing else, are refused with "
        "a reason, and change nothing."
    ),
    "quarantine": "A quarantined bot is never started but by a release.",
    "state": (
        "The state shown follows from what the child last said and what it was told: quarantine exactly when counted "
        "failures exceed the intensity or a class is hopeless, never by failures that the breaker puts down to the "
        "environment."
    ),
    "backoff": (
        "After a failure a bot waits between half and the whole of its doubled, capped delay; after a stable period, "
        "or when it was well and is killed from outside, not at all."
    ),
    "actions": (
        "Exactly what is due is done: stop, then TERM, then KILL; stacks before KILL; one start when its turn has "
        "come; nothing for reports of processes that are gone."
    ),
    "deadlines": (
        "Whatever has a process has a deadline; it is met to the turn of the loop, never before, and moves by the "
        "time for which the supervisor was held up."
    ),
    "nobody in time": "A bot that has written a heartbeat in time is never condemned, not even after a stall.",
    "stop in time": "A process that was asked to stop is gone after stop_timeout + term_timeout and the kernel's time.",
    "turns": "At most `at_once` bots have a turn to start; whoever waits is served in order, as soon as there is room.",
    "breaker": (
        "The breaker opens exactly at its threshold, pauses twice as long each time, lets one probe go, then growing "
        "batches, and closes; who is held is counted and told why. Opened again and again, it leaves those on their "
        "own who fail while most are well or have never been ready, and still holds the others."
    ),
    "recycling": (
        "A bot is recycled at its age or number of updates, give or take a tenth, but neither while it is paused nor "
        "before it has been ready for the period."
    ),
    "next look": "Supervision asks to be woken no later than something is due.",
    "consistent changes": (
        "Each change begins where the last one of that child ended, changes something, and shows no state without a "
        "stay."
    ),
    "record": "The rest of the record (pid, restarts, failures, causes, times) agrees with what happened.",
    "reasons": "Every state says its reason; backoff and quarantine by failures have a cause.",
    "policy": "A new policy counts from when it is set.",
    "forgotten": "A bot that has left the fleet is forgotten exactly when it has ended, and nobody else is.",
    "shutdown": "The daemon's end ends bots, then `control`, then servers, and leaves no process.",
    "progress": "Time goes on.",
    "never falls over": "No event in any state raises an error.",
    "spread": "Over many schedules, delays and recyclings are spread over their whole range.",
}
