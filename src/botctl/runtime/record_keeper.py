"""Keeps the lifecycle records: what became of each bot, and of each end of one why.

Deaths go to their log at once, or as soon as the disk has room. Every record is kept until `control` has stored it, so
that a `control` that died misses none. It decides nothing, and never waits for `control` or for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from botctl.runtime import messages
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.logs import LogKeeper
from botctl.runtime.record_outbox import RecordOutbox
from botctl.supervision import events, explain
from botctl.supervision.breaker import Breaker
from botctl.supervision.failures import TREATMENT
from botctl.supervision.fleet_machine import Change
from botctl.supervision.model import AfterStop, Exit, Failure, Record, State

HISTORY_LOG = "deaths"
"""Name of the log that has every end of an incarnation, whether the database is there or not."""

HELD_BACK = ", so restarts are held back"
"""How the breaker's reason ends."""

_FLAPPING = (
    frozenset({State.RUNNING, State.DEGRADED, State.PAUSED}),
    frozenset({State.STARTING, State.PAUSED}),
)
"""States between which a bot may go to and fro as it likes."""

FLAPS_APART = 1.0
"""Seconds from one record to the next of a bot that goes to and fro."""

_WITH_STACKS = frozenset({Failure.CRASH, Failure.HANG, Failure.NOT_READY})
"""Failures whose record has stacks: they were asked for, or are the traceback of a fatal signal. What others have
written into the file is nobody's answer."""


@dataclass(frozen=True)
class _Ending:
    """How a process has ended, kept until the transition that follows."""

    exit: Exit
    stacks: str


class RecordKeeper:
    """`send` puts a record on its way to `control`; the `breaker` is asked whom it holds back."""

    def __init__(
        self,
        children: Children,
        logs: LogKeeper,
        send: Callable[[Child, messages.Lifecycle], None],
        breaker: Breaker | None = None,
    ) -> None:
        self._breaker = breaker
        self._children = children
        self._logs = logs
        self._send = send
        self._outbox = RecordOutbox()
        self._seq = 0
        self._owed: set[int] = set()
        self._endings: dict[int, _Ending] = {}

    # --- what has happened -----------------------------------------------------------------------------------------

    def ending(self, child: Child, exit: Exit, stacks: str) -> None:
        """A process has ended; the transition that follows carries how, and what its stacks were."""
        self._endings[child.key] = _Ending(exit, stacks)

    def transition(self, child: Child, change: Change) -> bool:
        """Record a transition of a bot. False when it is not worth a word: a bot that flaps is heard once a second."""
        ending = self._endings.pop(child.key, None)
        if child.kind is not Kind.BOT:
            return True
        before, record = change.before, change.after
        flaps = any({before.state, record.state} <= states for states in _FLAPPING)
        if flaps and 0 <= time.time() - child.recorded_at < FLAPS_APART:
            self._owed.add(child.key)
            return False
        ended = isinstance(change.event, events.Exited | events.SpawnFailed)
        lifecycle = self._lifecycle(child, before.state.value, before if ended else record, record)
        if ended:
            lifecycle = self._death(lifecycle, child, before, record, ending)
            self._logs.write(HISTORY_LOG, messages.encode(lifecycle).decode(), keep=True)
            if lifecycle.stacks:
                # In one piece: there may be as many lines as bytes.
                self._logs.write(child.log_name, f"[stacks of its threads and tasks]\n{lifecycle.stacks}")
        self._outbox.add(lifecycle)
        self._tell()
        return True

    def settle(self) -> None:
        """Record where bots that went to and fro have got to; to be called about once a second."""
        now = time.time()
        for key in list(self._owed):
            child = self._children.get(key)
            if child is not None and 0 <= now - child.recorded_at < FLAPS_APART:
                continue
            self._owed.discard(key)
            if child is not None and child.record.state.value != child.recorded_state:
                self._outbox.add(self._lifecycle(child, child.recorded_state, child.record, child.record))
        self._tell()

    # --- what `control` has of it ----------------------------------------------------------------------------------

    def stored(self, seq: int) -> None:
        """`control` has stored all up to and including this one."""
        self._outbox.recorded(seq)
        self._tell()

    def tell_again(self) -> None:
        """A new `control` listens: everything the last one had not stored comes again."""
        self._outbox.again()
        self._tell()

    def _tell(self) -> None:
        control = self._children.control()
        while control is not None and (record := self._outbox.next()) is not None:
            self._send(control, record)

    # --- records ---------------------------------------------------------------------------------------------------

    def _lifecycle(self, child: Child, from_state: str, of: Record, now_is: Record) -> messages.Lifecycle:
        self._seq += 1
        self._owed.discard(child.key)
        child.recorded_at, child.recorded_state = time.time(), now_is.state.value
        return messages.Lifecycle(
            seq=self._seq,
            at=child.recorded_at,
            name=child.name,
            bot_id=child.key,
            incarnation=of.incarnation,
            from_state=from_state,
            to_state=now_is.state.value,
            reason=now_is.reason,
            pid=of.pid,
        )

    def _death(
        self, lifecycle: messages.Lifecycle, child: Child, before: Record, after: Record, ending: _Ending | None
    ) -> messages.Lifecycle:
        """The record of the end of an incarnation."""
        now = time.monotonic()
        judged = before.state is not State.STOPPING or before.after_stop is AfterStop.FAIL
        failed = after.last_failure if judged else None
        exit_ = ending.exit if ending is not None else None
        if failed is not None:
            child.failed_at, child.last_exit = lifecycle.at, str(exit_) if exit_ is not None else None
            child.failures += TREATMENT[failed].counted and failed is not Failure.MEMORY
        cause = explain.cause(before, after, exit_)
        return msgspec.structs.replace(
            lifecycle,
            exit=str(exit_) if exit_ is not None else "never started",
            failure=failed.value if failed is not None else None,
            duration=now - before.started_at if before.started_at is not None else None,
            log_tail=self._logs.tail(child.log) if child.log is not None else [],
            cause=f"{cause}; {child.note}" if child.note else cause,
            action=self._action(child, after, now),
            stacks=ending.stacks if ending is not None and failed in _WITH_STACKS else "",
            memory_mb=child.gauges.get("pss_mb"),
            silent_for=now - child.heartbeat_at if child.heartbeat_at is not None else None,
        )

    def _action(self, child: Child, after: Record, now: float) -> str:
        """What was done about an end. The breaker has had its say by now, so that there may be more than in `after`."""
        breaker = self._breaker
        if breaker is None or after.state is not State.BACKOFF or not breaker.minds(child.key):
            return explain.action(after, now)
        told = f"held back by the fleet breaker: {breaker.reason.removesuffix(HELD_BACK)}"
        pardoned = after.failures and not child.record.failures
        return f"{told}; not counted: the environment was to blame" if pardoned else told
