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
from collections.abc import Callable

IDLE = 60.0
"""Seconds after which a loop with nothing to do looks round anyway."""

READABLE = selectors.EVENT_READ
WRITABLE = selectors.EVENT_WRITE


class Loop:
    """Callbacks run in the thread that calls `turn`; only `call` may be used from others."""

    def __init__(self) -> None:
        self.longest_turn = 0.0
        """Seconds of the longest time between two looks at the selector so far."""
        self._selector = selectors.DefaultSelector()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._signals: list[signal.Signals] = []
        self._woke = 0.0
        self._wake_out, self._wake_in = os.pipe()
        for descriptor in (self._wake_out, self._wake_in):
            os.set_blocking(descriptor, False)
        self.watch(self._wake_out, READABLE, self._woken)

    def watch(self, descriptor: int, mask: int, callback: Callable[[], None]) -> None:
        """Call back when the descriptor is readable or writable; once a descriptor."""
        self._selector.register(descriptor, mask, callback)

    def watches(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._selector.get_map()

    def forget(self, descriptor: int) -> None:
        """Watch it no more; harmless when it isn't watched."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function; the only way in for other threads."""
        self._calls.put(function)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_in, b"!")

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
        busy = began - self._woke if self._woke else 0.0
        timeout = IDLE if until is None else max(0.0, until - began)
        if self._signals or not self._calls.empty():
            timeout = 0.0
        ready = self._selector.select(timeout)
        woke = self._woke = time.monotonic()
        for key, _ in ready:
            key.data()
        self._take_calls()
        self.longest_turn = max(self.longest_turn, time.monotonic() - woke)
        return busy + max(0.0, woke - began - timeout)

    def close(self) -> None:
        """Let go of its own descriptors."""
        self._selector.close()
        for descriptor in (self._wake_out, self._wake_in):
            os.close(descriptor)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_out, 4096)

    def _take_calls(self) -> None:
        while True:
            try:
                function = self._calls.get_nowait()
            except queue.Empty:
                return
            function()
