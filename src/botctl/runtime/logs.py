"""Children's output: read from their pipes by one thread, redacted, written to rotated files, its tail kept.

Disk can block; it blocks this thread only. A child that floods its output waits for this thread, nobody else does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

READ_BUDGET = 64 * 1024
LONGEST_LINE = 32 * 1024
TAIL_LINES = 40
CUT_WINDOW = 2048
RETRY_AFTER = 1.0
"""Seconds before a log file that could not be opened is tried again."""

_NOT_IN_SECRETS = re.compile(rb"[^A-Za-z0-9_:%+/=.-]")


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


class _Stream:
    """One pipe that is read into one file."""

    def __init__(self, descriptor: int, name: str, tail: deque[str]) -> None:
        self.descriptor = descriptor
        self.name = name
        self.tail = tail
        self.lock = threading.Lock()
        self.partial = b""
        self.unwritten: list[bytes] = []
        self.ended = False

    def take(self, redact: Callable[[bytes], bytes]) -> bool:
        """Read once; True if there may be more. Only memory is touched."""
        try:
            data = os.read(self.descriptor, READ_BUDGET)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            if self.partial:
                self._line(self.partial, redact)
                self.partial = b""
            return False
        *lines, rest = (self.partial + data).split(b"\n")
        for line in lines:
            self._line(line, redact)
        while len(rest) > LONGEST_LINE:
            end = _harmless_cut(rest, LONGEST_LINE)
            self._line(rest[:end], redact)
            rest = rest[end:]
        self.partial = rest
        return len(data) == READ_BUDGET

    def _line(self, line: bytes, redact: Callable[[bytes], bytes]) -> None:
        clean = redact(line)
        self.tail.append(clean.decode("utf-8", "backslashreplace"))
        self.unwritten.append(clean + b"\n")


def _harmless_cut(line: bytes, limit: int) -> int:
    """Where to cut a line that is too long: not within what could be a secret, lest each half look harmless."""
    for match in re.finditer(_NOT_IN_SECRETS, line[limit - CUT_WINDOW : limit][::-1]):
        return limit - match.start()
    return limit


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
        self._tails: dict[str, deque[str]] = {}
        self._streams: dict[int, _Stream] = {}
        self._own_lines: deque[tuple[str, str]] = deque()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        os.set_blocking(self._wake_in, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def open(self, name: str) -> tuple[int, int]:
        """A new pipe for `name`: a token for `tail`, and the descriptor for the child's output (the caller's)."""
        source, sink = os.pipe()
        os.set_blocking(source, False)
        with self._lock:
            self._tails[name] = deque(maxlen=TAIL_LINES)
            stream = _Stream(source, name, self._tails[name])
            self._streams[source] = stream
            self._selector.register(source, selectors.EVENT_READ, stream)
        self._wake()
        return source, sink

    def tail(self, token: int, name: str, lines: int = 12) -> list[str]:
        """The last lines of the latest incarnation of a child, with what still stands in its pipe."""
        with self._lock:
            stream = self._streams.get(token)
        if stream is not None:
            with stream.lock:
                for _ in range(4):
                    if stream.ended or not stream.take(self._redact):
                        break
        tail = self._tails.get(name)
        return list(tail)[-lines:] if tail is not None else []

    def write(self, name: str, line: str) -> None:
        """A line of the daemon's own; written, like everything, by the keeper's thread."""
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
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(self._wake_out, 4096)
                else:
                    self._serve(key.data)
            self._write_own_lines()
        for stream in list(self._streams.values()):
            self._serve(stream)
        self._write_own_lines()

    def _write_own_lines(self) -> None:
        while self._own_lines:
            name, line = self._own_lines.popleft()
            self._file(name).write(self._redact(line.encode("utf-8", "backslashreplace")) + b"\n")

    def _serve(self, stream: _Stream) -> None:
        with stream.lock:
            if not stream.ended:
                stream.take(self._redact)
            lines, stream.unwritten = stream.unwritten, []
            ended = stream.ended
        if lines:
            self._file(stream.name).write(b"".join(lines))
        if ended:
            with self._lock:
                self._selector.unregister(stream.descriptor)
                del self._streams[stream.descriptor]
            os.close(stream.descriptor)
