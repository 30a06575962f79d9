"""Children's output: read from their pipes by one thread, redacted, written to rotated files, its tail kept.

Disk can block; it blocks this thread only. A child that floods its output is read at a bounded rate: it waits, nobody
else does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from botctl.runtime.allowance import Allowance
from botctl.runtime.log_stream import LogStream

BYTES_PER_SECOND = 1 << 20
"""Bytes of output a child may write on average, and ten times as many at once. Who writes more has to wait."""

PAUSE = 0.1
"""Seconds for which a child that has written too much isn't read."""

GIVE_WAY = 10
"""Milliseconds for which the supervisor's work goes before the next few KiB of output."""

RETRY_AFTER = 1.0
"""Seconds before a log file that could not be opened is tried again."""


class RotatingFile:
    """An append-only file that is renamed to `.1`, `.2`, … when it outgrows `max_bytes`.

    Never raises: with the disk full or the folder gone, lines are lost, and counted in `lost` until a later write
    succeeds again.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor = -1
        self._size = 0
        self._retry_at = 0.0
        self.lost = 0

    def write(self, data: bytes) -> None:
        """Append; rotates before a write that would go over the limit."""
        try:
            if self._descriptor < 0:
                self._open()
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
                self._open()
            if self.lost:
                note = f"[botctl: {self.lost} writes were lost]\n".encode()
                self._size += os.write(self._descriptor, note)
                self.lost = 0
            self._size += os.write(self._descriptor, data)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if time.monotonic() < self._retry_at:
            raise OSError(errno.EAGAIN, "not yet")
        self._retry_at = time.monotonic() + RETRY_AFTER
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        self._retry_at = 0.0

    def _rotate(self) -> None:
        self.close()
        for number in range(self._backups, 0, -1):
            source = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                source.replace(self._path.with_name(f"{self._path.name}.{number}"))
        if self._backups == 0:
            self._path.unlink(missing_ok=True)


class LogKeeper:
    """Makes log pipes, one an incarnation, and keeps one file a name."""

    def __init__(
        self, folder: Path, *, redact: Callable[[bytes], bytes], max_bytes: int = 10 * 1024**2, backups: int = 5
    ) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder
        self._redact = redact
        self._max_bytes = max_bytes
        self._backups = backups
        self._files: dict[str, RotatingFile] = {}
        self._latest: dict[str, LogStream] = {}
        self._streams: set[LogStream] = set()
        self._allowances: dict[str, Allowance] = {}
        self._paused: deque[tuple[float, LogStream]] = deque()
        self._own_lines: deque[tuple[str, str]] = deque()
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

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def open(self, name: str) -> tuple[int, int]:
        """A new pipe for `name`: the keeper's end, and the descriptor for the child's output (the caller's)."""
        source, sink = os.pipe()
        os.set_blocking(source, False)
        stream = LogStream(source, name)
        with self._lock:
            self._latest[name] = stream
            self._streams.add(stream)
            self._allowances.setdefault(name, Allowance(BYTES_PER_SECOND))
            self._selector.register(source, selectors.EVENT_READ, stream)
        self._wake()
        return source, sink

    def tail(self, name: str, lines: int = 12) -> list[str]:
        """The last lines of the latest incarnation of a child, with what still stands in its pipe."""
        stream = self._latest.get(name)
        return stream.tail(self._redact)[-lines:] if stream is not None else []

    def write(self, name: str, line: str) -> None:
        """A line of the daemon's own, or several; written, like everything, by the keeper's thread."""
        self._own_lines.append((name, line))
        self._wake()

    def redact(self, text: str) -> str:
        """Text without secrets, for what goes elsewhere than into a log."""
        return self._redact(text.encode("utf-8", "backslashreplace")).decode("utf-8", "backslashreplace")

    def stop(self, timeout: float) -> None:
        """Write what has arrived and close."""
        self._stopping = True
        self._wake()
        self._thread.join(timeout)

    def _file(self, name: str) -> RotatingFile:
        """Called in the keeper's thread only."""
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
            for key, _ in self._selector.select(self._go_on()):
                if key.data is None:
                    os.read(self._wake_out, 4096)
                else:
                    self._serve(key.data)
            self._write_own_lines()
        for stream in list(self._streams):
            self._serve(stream)
        self._write_own_lines()

    def _write_own_lines(self) -> None:
        while self._own_lines:
            name, line = self._own_lines.popleft()
            self._file(name).write(self._redact(line.encode("utf-8", "backslashreplace")) + b"\n")

    def _serve(self, stream: LogStream) -> None:
        arrived = stream.fill()
        if lines := stream.clean(self._clean):
            self._file(stream.name).write(lines)
        now = time.monotonic()
        with self._lock:
            within = self._allowances[stream.name].take(arrived, now)
            if stream.ended or not within:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(stream.descriptor)
            if stream.ended:
                self._streams.discard(stream)
        if stream.ended:
            os.close(stream.descriptor)
        elif not within:
            self._paused.append((now + PAUSE, stream))

    def _clean(self, lines: bytes) -> bytes:
        for _ in range(GIVE_WAY):
            if self.may_work():
                break
            time.sleep(0.001)
        return self._redact(lines)

    def _go_on(self) -> float | None:
        """Read again those that have waited; seconds until the next has."""
        now = time.monotonic()
        while self._paused and self._paused[0][0] <= now:
            _, stream = self._paused.popleft()
            with self._lock:
                self._selector.register(stream.descriptor, selectors.EVENT_READ, stream)
        return self._paused[0][0] - now if self._paused else None
