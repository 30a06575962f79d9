"""The supervisor's whole view, as `control` and the command line show it. Looks only: nothing is changed by looking."""

from __future__ import annotations

import os
import resource
import threading
import time

from botctl.runtime import messages
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.generations import Generations
from botctl.runtime.loop import Loop
from botctl.runtime.shutdown import Shutdown
from botctl.runtime.wanted_fleet import WantedFleet
from botctl.supervision.fleet_machine import FleetMachine
from botctl.supervision.model import HAS_PROCESS


class Snapshots:
    """Views of one supervisor; `take` makes one."""

    def __init__(
        self,
        *,
        children: Children,
        machine: FleetMachine,
        loop: Loop,
        generations: Generations,
        wanted: WantedFleet,
        shutdown: Shutdown,
    ) -> None:
        self._children = children
        self._machine = machine
        self._loop = loop
        self._generations = generations
        self._wanted = wanted
        self._shutdown = shutdown
        self._started = time.time()

    def take(self, request: int = 0) -> messages.Snapshot:
        """The view of this moment, as the answer to a request."""
        now = time.monotonic()
        return messages.Snapshot(
            id=request,
            pid=os.getpid(),
            state="stopping" if self._shutdown.begun else "running",
            started_at=self._started,
            generation=self._wanted.generation,
            bots=[_bot_status(child, now) for child in self._children.bots()],
            services=[_service_status(child) for child in self._children.values() if child.kind is not Kind.BOT],
            forkservers=self._generations.statuses(),
            breaker=self._machine.breaker.reason,
            gauges=self._own_gauges(),
        )

    def _own_gauges(self) -> dict[str, float]:
        return {
            "starting": self._machine.turns.taken,
            "waiting_to_start": self._machine.turns.waiting,
            "held_back": self._machine.breaker.held,
            "longest_turn_ms": round(self._loop.longest_turn * 1e3, 3),
            "longest_turn_own_ms": round(self._loop.longest_turn_own * 1e3, 3),
            "open_files": _open_files(),
            "threads": threading.active_count(),
        }


def _bot_status(child: Child, now: float) -> messages.BotStatus:
    record = child.record
    alive = record.state in HAS_PROCESS
    isolated = child.isolated if alive else None
    return messages.BotStatus(
        name=child.name,
        bot_id=child.key,
        state=record.state.value,
        reason=record.reason,
        pid=record.pid if alive else None,
        incarnation=record.incarnation,
        restarts=record.restarts,
        last_failure=record.last_failure.value if record.last_failure is not None else None,
        last_failure_at=child.failed_at,
        last_exit=child.last_exit,
        since=child.wall_since,
        started_at=child.wall_started if alive else None,
        heartbeat_age=now - child.heartbeat_at if child.heartbeat_at is not None and alive else None,
        wanted=record.wanted,
        credentials_generation=child.credentials.generation if child.credentials is not None else 0,
        gauges=child.gauges,
        counters=child.counters,
        forkserver=child.forked_from if alive else 0,
        code=child.source.code,
        assigned=child.source.generation,
        failures=child.failures,
        shut_away=record.shut_away,
        isolation=isolated.level if isolated is not None else "",
        isolation_note=isolated.note if isolated is not None else "",
        uid=isolated.uid if isolated is not None else 0,
    )


def _service_status(child: Child) -> messages.ServiceStatus:
    return messages.ServiceStatus(
        name=child.name,
        state=child.record.state.value,
        reason=child.record.reason,
        pid=child.record.pid,
        restarts=child.record.restarts,
    )


def _open_files() -> int:
    """Descriptors in use. One is needed to count them: where none is left, as many as there may be."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
