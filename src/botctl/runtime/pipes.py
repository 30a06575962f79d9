"""The supervisor's end of a child's pipes: non-blocking, with a budget for reading and a bound for writing.

One pipe carries commands down, one carries reports up; both are new for every incarnation.
"""

from __future__ import annotations

import os
from collections import deque

from botctl.errors import ProtocolError
from botctl.runtime.frames import FrameReader, frame

READ_BUDGET = 64 * 1024
"""Bytes taken from one child in one round, so that a flood costs the others nothing."""

WRITES = 16
"""Writes to one child in one round: one that reads as fast as we write must not keep us at it."""

WRITE_BOUND = 1024 * 1024
"""Bytes that may wait for a bot that doesn't read."""


class ChildPipes:
    """Both pipes of one incarnation. The child's ends are open until `close_child_ends`."""

    def __init__(self, *, max_body: int, write_bound: int = WRITE_BOUND) -> None:
        self.child_commands, self._commands = os.pipe()
        try:
            self.reports, self.child_reports = os.pipe()
        except OSError:
            os.close(self.child_commands)
            os.close(self._commands)
            raise
        self._reader = FrameReader(max_body)
        self._pending = bytearray()
        self._write_bound = write_bound
        self.closed = False
        self.ended = False
        """Whether nothing more is to be read: the child has closed its end, or isn't listened to any more."""
        self.put_off = False
        """Whether the rest of the backlog waits for a later turn of the loop."""
        self.backlog: deque[bytes] = deque()
        """Bodies that have arrived and have not been handled."""
        for descriptor in (self._commands, self.reports):
            os.set_blocking(descriptor, False)

    @property
    def writer(self) -> int:
        """The descriptor to watch for writability while `wants_to_write`."""
        return self._commands

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the child to read."""
        return bool(self._pending)

    def send(self, body: bytes) -> None:
        """Queue a frame and write what the pipe takes. Raises ProtocolError when the child has stopped reading."""
        if self.closed:
            return
        if len(self._pending) + len(body) > self._write_bound and self._pending:
            raise ProtocolError("the child does not read its commands")
        self._pending += frame(body)
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes now."""
        for _ in range(WRITES):
            if not self._pending:
                return
            try:
                written = os.write(self._commands, bytes(self._pending[:65536]))
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._pending.clear()
                return
            del self._pending[:written]

    def read(self) -> tuple[list[bytes], bool]:
        """The bodies that have arrived, within the budget, and whether the pipe has ended. Raises ProtocolError."""
        try:
            data = os.read(self.reports, READ_BUDGET)
        except BlockingIOError:
            return [], False
        if not data:
            return [], True
        return self._reader.feed(data), False

    def close_child_ends(self) -> None:
        """Close what now belongs to the child alone."""
        for name in ("child_commands", "child_reports"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def close(self) -> None:
        """Close everything; harmless when closed."""
        if self.closed:
            return
        self.closed = True
        self.close_child_ends()
        os.close(self._commands)
        os.close(self.reports)
