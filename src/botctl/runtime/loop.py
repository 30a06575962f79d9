"""The supervisor's loop: one selector, calls from other threads, signals; measures how long each turn keeps it.

Knows nothing of children. It never waits for anything but the selector.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable

from botctl.runtime import linux

SLICE = 0.01
"""Seconds after which a turn leaves the rest of what was deferred to the next ones."""

PATIENCE = 0.02
"""Seconds that a patient descriptor may wait for others: many are then served in one turn, which costs a large idle
fleet a third of the turns."""

IDLE = 60.0
"""Seconds after which a loop with nothing to do looks round anyway."""

READABLE = selectors.EVENT_READ
WRITABLE = selectors.EVENT_WRITE


class Loop:
    """Callbacks run in the thread that calls `turn`; only `call` may be used from others.

    `on_error` is told of errors of callbacks; the loop goes on, for whatever went wrong with one descriptor is no
    reason for the others to end. Without it they end the loop.
    """

    def __init__(self, on_error: Callable[[Exception], None] | None = None) -> None:
        self._on_error = on_error
        self.longest_turn = 0.0
        """Seconds of the longest time between two looks at the selector so far."""
        self.longest_turn_own = 0.0
        """The same without the time for which this thread could have run and had no processor: what is left when the
        machine's doing is taken off. It waits for other threads, disks and locks at its own cost."""
        self.waiting = False
        """Whether there is nothing to do; for other threads that can put off their work."""
        self._selector = selectors.DefaultSelector()
        self._patient = selectors.EpollSelector()
        self._patient_at: float | None = None
        self._deferred: deque[Callable[[], None]] = deque()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._signals: list[signal.Signals] = []
        self._woke = 0.0
        self._woke_waited = 0.0
        self._queueing = linux.RunQueue()
        self._wake_out, self._wake_in = os.pipe()
        for descriptor in (self._wake_out, self._wake_in):
            os.set_blocking(descriptor, False)
        self.watch(self._wake_out, READABLE, self._woken)
        self.watch(self._patient.fileno(), READABLE, self._patience_begins)

    def watch(self, descriptor: int, mask: int, callback: Callable[[], None], *, patient: bool = False) -> None:
        """Call back when the descriptor is readable or writable; once a descriptor. A patient one waits a little."""
        (self._patient if patient else self._selector).register(descriptor, mask, callback)

    def watches(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._selector.get_map() or descriptor in self._patient.get_map()

    def forget(self, descriptor: int) -> None:
        """Watch it no more; harmless when it isn't watched."""
        for selector in (self._selector, self._patient):
            with contextlib.suppress(KeyError):
                selector.unregister(descriptor)

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function; the only way in for other threads."""
        self._calls.put(function)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_in, b"!")

    def defer(self, function: Callable[[], None]) -> None:
        """Call a function soon, after everything that is ready now. For work that there may be much of: each turn does
        as much as fits, so that whoever has something to say meanwhile is heard. Not for other threads."""
        self._deferred.append(function)

    def attempt(self, function: Callable[[], object]) -> None:
        """Call a function; its error is told to `on_error`."""
        try:
            function()
        except Exception as error:
            if self._on_error is None:
                raise
            self._on_error(error)

    def install_signals(self, signals: tuple[signal.Signals, ...]) -> None:
        """Handlers only note the signal; `take_signals` gives them."""
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        for sign in signals:
            signal.signal(sign, lambda number, _: self._signals.append(signal.Signals(number)))

    def take_signals(self) -> list[signal.Signals]:
        """Those that have come since the last time."""
        taken, self._signals = self._signals, []
        return taken

    def turn(self, until: float | None) -> float:
        """Wait until something happens or the monotonic clock shows `until`; run what there is to run.

        Returns the seconds for which nobody was listened to: by which the wait was longer than it should have been,
        and since the last one. More than a moment means that the whole process was held up.
        """
        began = time.monotonic()
        busy = self._end_turn(began)
        if self._patient_at is not None:
            until = self._patient_at if until is None else min(until, self._patient_at)
        timeout = IDLE if until is None else max(0.0, until - began)
        if self._signals or self._deferred or not self._calls.empty():
            timeout = 0.0
        self.waiting = True
        ready = self._selector.select(timeout)
        self.waiting = False
        woke = self._woke = time.monotonic()
        self._woke_waited = self._queueing.waited()
        for key, _ in ready:
            self.attempt(key.data)
        if self._patient_at is not None and woke >= self._patient_at:
            self._serve_the_patient()
        self._take_calls()
        self._take_deferred(woke + SLICE)
        return busy + max(0.0, woke - began - timeout)

    def _patience_begins(self) -> None:
        self._selector.unregister(self._patient.fileno())
        self._patient_at = self._woke + PATIENCE

    def _serve_the_patient(self) -> None:
        self._patient_at = None
        for key, _ in self._patient.select(0):
            self.attempt(key.data)
        self.watch(self._patient.fileno(), READABLE, self._patience_begins)

    def _take_deferred(self, until: float) -> None:
        for _ in range(len(self._deferred)):  # not those that these defer
            self.attempt(self._deferred.popleft())
            if time.monotonic() > until:
                return

    def _end_turn(self, now: float) -> float:
        if not self._woke:
            return 0.0
        busy = now - self._woke
        self.longest_turn = max(self.longest_turn, busy)
        waited = self._queueing.waited() - self._woke_waited
        self.longest_turn_own = max(self.longest_turn_own, busy - waited)
        return busy

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_out, 4096)

    def _take_calls(self) -> None:
        while True:
            try:
                function = self._calls.get_nowait()
            except queue.Empty:
                return
            self.attempt(function)
