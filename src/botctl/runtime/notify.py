"""sd_notify: tells systemd, where it asked to be told, how the daemon is. Never fails the daemon and never waits.

The variables by which systemd asks are taken out of the environment, so that no child speaks in the daemon's name.
The order of a life: EXTEND_TIMEOUT_USEC while starting, READY, then STATUS and WATCHDOG, RELOADING and READY again at
each reload, STOPPING, EXTEND_TIMEOUT_USEC while bots drain.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from enum import Enum

from botctl.supervision.model import State

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

EXTENSION = 60.0
"""Seconds asked for at a time while a start or a stop takes long."""

EXTEND_EVERY = 10.0

LONGEST_EXTENSION = 600.0
"""Seconds after which no more time is asked for: a start that has not come to an end by then hangs."""

RELOAD_DEADLINE = 10.0
"""Seconds after which a reload counts as over, if nothing told of its end: a wrong file changes nothing."""

_UNSENT = 16


class _Phase(Enum):
    STARTING = 1
    SERVING = 2
    STOPPING = 3


class Notifier:
    """What systemd is told. Without a socket in `env`, every method does nothing.

    Messages that systemd's queue has no room for are kept and sent at the next `pulse`.
    """

    def __init__(
        self, env: MutableMapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        env = os.environ if env is None else env
        asked = {name: env.pop(name) for name in VARIABLES if name in env}
        self._address = _address(asked.get("NOTIFY_SOCKET", ""))
        self._beat_every = _watchdog(asked)
        self._clock = clock
        self._unsent: deque[str] = deque(maxlen=_UNSENT)
        self._phase = _Phase.STARTING
        self._busy_since = clock()
        self._status = ""
        self._extend_at = 0.0
        self._beat_at = 0.0
        self._reload_ends: float | None = None

    def starting(self, status: str, *, silent_for: float = 0.0) -> None:
        """The start goes on; for `silent_for` seconds nothing may be heard of it."""
        if self._phase is _Phase.STARTING:
            self._extend(silent_for + EXTENSION, self._worded(status))

    def ready(self, status: str = "serving") -> None:
        """The daemon serves. Only the first call is told."""
        if self._phase is _Phase.STARTING:
            self._phase = _Phase.SERVING
            self._send("READY=1", self._worded(status))

    def reloading(self) -> None:
        """A reload is under way; nothing before the daemon is ready, nor while it ends."""
        if self._phase is _Phase.SERVING:
            # systemd compares this with the moment of its own request (sd_notify(3), MONOTONIC_USEC).
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
            self._reload_ends = self._clock() + RELOAD_DEADLINE

    def reloaded(self) -> None:
        """The reload is over; nothing when there was none."""
        if self._reload_ends is not None:
            self._reload_ends = None
            self._send("READY=1")

    def stopping(self, status: str = "stopping") -> None:
        """The daemon ends. Only the first call is told."""
        if self._phase is not _Phase.STOPPING:
            self._phase = _Phase.STOPPING
            self._busy_since = self._clock()
            self._reload_ends = None
            self._send("STOPPING=1", self._worded(status))

    def pulse(self, status: str = "") -> None:
        """To be called about once a second: the watchdog's beat, a status that has changed, what is due."""
        now = self._clock()
        self._send_the_unsent()
        if self._unsent:
            return  # systemd is behind; what is said late is worth nothing, and would push out what counts
        if self._reload_ends is not None and now >= self._reload_ends:
            self.reloaded()
        if status and status != self._status:
            self._send(self._worded(status))
        busy = self._phase is not _Phase.SERVING and now - self._busy_since < LONGEST_EXTENSION
        if busy and now >= self._extend_at:
            self._extend(EXTENSION)
        if self._beat_every is not None and now >= self._beat_at:
            self._beat_at = now + self._beat_every
            self._send("WATCHDOG=1")

    def _extend(self, seconds: float, *lines: str) -> None:
        self._extend_at = self._clock() + EXTEND_EVERY
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", *lines)

    def _worded(self, status: str) -> str:
        self._status = status
        return f"STATUS={' '.join(status.split())[:500]}"

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        self._unsent.append("\n".join(lines))
        self._send_the_unsent()

    def _send_the_unsent(self) -> None:
        if not self._unsent or self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as link:
                while self._unsent:
                    link.sendto(self._unsent[0].encode(), self._address)
                    self._unsent.popleft()
        except OSError:
            return


def fleet_words(states: Mapping[str, int]) -> str:
    """`12 bots: 11 running, 1 quarantined`, from the number of bots by the name of their state."""
    total = sum(states.values())
    if not total:
        return "no bots"
    order = (State.RUNNING, *(state for state in State if state is not State.RUNNING))
    parts = [f"{states[state.value]} {state.value}" for state in order if states.get(state.value)]
    return f"{total} {'bot' if total == 1 else 'bots'}: {', '.join(parts)}"


def _address(text: str) -> str | None:
    """A path or an abstract name; systemd's other kinds (vsock) are for virtual machines and not for us."""
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _watchdog(asked: Mapping[str, str]) -> float | None:
    """Seconds between beats: half of what systemd waits; None when it doesn't watch this process."""
    try:
        interval = int(asked["WATCHDOG_USEC"]) / 1e6
        watched = int(asked.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return interval / 2 if interval > 0 and watched == os.getpid() else None
