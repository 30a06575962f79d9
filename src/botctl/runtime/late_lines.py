"""Lines that must not be lost to a full disk: they wait in memory, bounded, until they can be written.

Used by one thread. Keeps the order of lines; the oldest go when there are too many.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from botctl.runtime.rotating_file import RotatingFile

KEPT_BYTES = 8 << 20
"""Of lines that wait; thousands of deaths, or a hundred with the largest stacks."""

AGAIN_AFTER = 1.0
"""Seconds from one attempt to the next."""


class LateLines:
    """A queue of lines with the name of the file that each is for."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._again_at = 0.0

    def add(self, name: str, line: bytes) -> None:
        """A line to be written at the next opportunity."""
        self._lines.append((name, line))
        self._bytes += len(line)
        while self._bytes > KEPT_BYTES:
            self._drop()

    def write(self, file: Callable[[str], RotatingFile]) -> float | None:
        """Write what can be written; seconds until the next attempt, None when nothing waits."""
        now = time.monotonic()
        if self._lines and now >= self._again_at:
            while self._lines:
                name, line = self._lines[0]
                if not file(name).offer(line):
                    self._again_at = now + AGAIN_AFTER
                    break
                self._drop()
        return max(0.0, self._again_at - now) if self._lines else None

    def _drop(self) -> None:
        _, line = self._lines.popleft()
        self._bytes -= len(line)
