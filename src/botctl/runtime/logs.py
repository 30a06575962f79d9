"""Children's output: read from their pipes by one thread, redacted, written to rotated files, its tail kept.

Disk can block; it blocks this thread only. A child that floods its output is read at a bounded rate: it waits, nobody
else does.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from botctl.runtime.allowance import Allowance
from botctl.runtime.late_lines import LateLines
from botctl.runtime.log_stream import LogStream
from botctl.runtime.rotating_file import RotatingFile

BYTES_PER_SECOND = 1 << 20
"""Bytes of output a child may write on average, and ten times as many at once. Who writes more has to wait."""

PAUSE = 0.1
"""Seconds for which a child that has written too much isn't read."""

GIVE_WAY = 10
"""Milliseconds for which the supervisor's work goes before the next few KiB of output."""

CLOSE_AFTER = 2.0
"""Seconds for which a pipe is read after its incarnation has ended. Somebody may have inherited the other end, and
would cost us a descriptor for as long as it lives."""

LAST_READS = 16
"""Reads of what still stands in a pipe that is closed; enough for a full one of 1 MB."""

IDLE_AFTER = 30.0
"""Seconds without a pipe and without a line after which a file is closed and its name forgotten."""


class LogKeeper:
    """Makes log pipes, one an incarnation, and keeps one file a name while there is something to write into it.

    `redact(name, lines)` takes out what must not stand in the log of that name.
    """

    def __init__(
        self, folder: Path, *, redact: Callable[[str, bytes], bytes], max_bytes: int = 10 * 1024**2, backups: int = 5
    ) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder
        self._redact = redact
        self._max_bytes = max_bytes
        self._backups = backups
        self._files: dict[str, RotatingFile] = {}
        self._used: dict[str, float] = {}
        """When there was last a line for a file, or a pipe; the keeper's thread only, like the files."""
        self._streams: set[LogStream] = set()
        self._allowances: dict[str, Allowance] = {}
        self._over: deque[tuple[float, LogStream]] = deque()
        self._paused: deque[tuple[float, LogStream]] = deque()
        self._own_lines: deque[tuple[str, str, bool]] = deque()
        self._late = LateLines()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        os.set_blocking(self._wake_in, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._stopping = False
        self.may_work: Callable[[], bool] = lambda: True
        """Whether the supervisor has nothing to do: only one thread at a time runs Python code."""
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    @property
    def alive(self) -> bool:
        """False when the thread has died, so that nobody reads any more."""
        return self._thread.ident is None or self._thread.is_alive()

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def open(self, name: str) -> tuple[LogStream, int]:
        """A new pipe for `name`: what is read from it, and the descriptor for the child's output (the caller's)."""
        source, sink = os.pipe()
        os.set_blocking(source, False)
        stream = LogStream(source, name)
        with self._lock:
            self._streams.add(stream)
            self._allowances.setdefault(name, Allowance(BYTES_PER_SECOND))
            self._selector.register(source, selectors.EVENT_READ, stream)
        self._wake()
        return stream, sink

    def ended(self, stream: LogStream) -> None:
        """Whoever it was opened for has ended: it is closed soon, whether others still hold the other end or not."""
        if not stream.over:
            stream.over = True
            self._over.append((time.monotonic() + CLOSE_AFTER, stream))
            self._wake()

    def tail(self, stream: LogStream, lines: int = 12) -> list[str]:
        """The last lines of one incarnation, with what still stands in its pipe."""
        return stream.tail(partial(self._redact, stream.name))[-lines:]

    def write(self, name: str, line: str, *, keep: bool = False) -> None:
        """A line of the daemon's own, or several; written, like everything, by the keeper's thread.

        What can't be written is lost; to `keep` it is to try again until the disk has room.
        """
        self._own_lines.append((name, line, keep))
        self._wake()

    def redact(self, name: str, text: str) -> str:
        """What the child with the log of this name has said, without secrets, to go elsewhere than into a log."""
        return self._redact(name, text.encode("utf-8", "backslashreplace")).decode("utf-8", "backslashreplace")

    def stop(self, timeout: float) -> None:
        """Write what has arrived and close."""
        self._stopping = True
        self._wake()
        self._thread.join(timeout)

    def _file(self, name: str) -> RotatingFile:
        """Called in the keeper's thread only."""
        self._used[name] = time.monotonic()
        file = self._files.get(name)
        if file is None:
            path = self._folder / f"{name}.log"
            file = self._files[name] = RotatingFile(path, max_bytes=self._max_bytes, backups=self._backups)
        return file

    def _wake(self) -> None:
        try:
            os.write(self._wake_in, b"!")
        except BlockingIOError:
            return

    def _run(self) -> None:
        while not self._stopping:
            looks = (self._go_on(), self._close_the_over(), self._close_files(), self._late.write(self._file))
            waits = [wait for wait in looks if wait is not None]
            for key, _ in self._selector.select(min(waits) if waits else None):
                if key.data is None:
                    os.read(self._wake_out, 4096)
                else:
                    self._serve(key.data)
            self._write_own_lines()
        for stream in list(self._streams):
            self._finish(stream)
        self._write_own_lines()
        for file in self._files.values():
            file.close()

    def _write_own_lines(self) -> None:
        while self._own_lines:
            name, line, keep = self._own_lines.popleft()
            written = self._redact(name, line.encode("utf-8", "backslashreplace")) + b"\n"
            if keep:
                self._late.add(name, written)
            else:
                self._file(name).write(written)
        self._late.write(self._file)

    def _serve(self, stream: LogStream) -> None:
        arrived = stream.fill()
        self._write_lines(stream)
        if stream.ended:
            self._close(stream)
            return
        now = time.monotonic()
        with self._lock:
            within = self._allowances[stream.name].take(arrived, now)
            if not within:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(stream.descriptor)
        if not within:
            self._paused.append((now + PAUSE, stream))

    def _write_lines(self, stream: LogStream) -> None:
        if lines := stream.clean(partial(self._clean, stream.name)):
            self._file(stream.name).write(lines)

    def _finish(self, stream: LogStream) -> None:
        for _ in range(LAST_READS):
            if stream.fill() == 0:
                break
        self._close(stream)

    def _close(self, stream: LogStream) -> None:
        """Once only, and in the keeper's thread."""
        stream.end()
        # Whoever asked for the tail may have read on since the lines were written, and met the end.
        self._write_lines(stream)
        with self._lock:
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream.descriptor)
            self._streams.discard(stream)
        self._used[stream.name] = time.monotonic()
        os.close(stream.descriptor)

    def _clean(self, name: str, lines: bytes) -> bytes:
        for _ in range(GIVE_WAY):
            if self.may_work():
                break
            time.sleep(0.001)
        return self._redact(name, lines)

    def _go_on(self) -> float | None:
        """Read again those that have waited; seconds until the next has."""
        now = time.monotonic()
        while self._paused and self._paused[0][0] <= now:
            _, stream = self._paused.popleft()
            with self._lock:
                if stream in self._streams:  # else it has been closed, and its number may be another's
                    self._selector.register(stream.descriptor, selectors.EVENT_READ, stream)
        return max(0.0, self._paused[0][0] - now) if self._paused else None

    def _close_the_over(self) -> float | None:
        """Close the pipes of those that have ended a while ago; seconds until the next."""
        now = time.monotonic()
        while self._over and self._over[0][0] <= now:
            _, stream = self._over.popleft()
            if stream in self._streams:
                self._finish(stream)
        return max(0.0, self._over[0][0] - now) if self._over else None

    def _close_files(self) -> float | None:
        """Close the files that nobody writes into any more; seconds until the next may be one."""
        with self._lock:
            names = {stream.name for stream in self._streams}
            idle = {name: used for name, used in self._used.items() if name not in names}
            now = time.monotonic()
            for name in [name for name, used in idle.items() if used + IDLE_AFTER <= now]:
                del self._used[name], idle[name]
                self._allowances.pop(name, None)
                if (file := self._files.pop(name, None)) is not None:
                    file.close()
        return max(0.0, min(idle.values()) + IDLE_AFTER - now) if idle else None
