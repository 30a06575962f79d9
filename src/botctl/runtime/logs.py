"""Children's output: read from their pipes by one thread, redacted, written to rotated files, its tail kept.

Disk can block; it blocks this thread only. A child that floods its output waits for this thread, nobody else does.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

READ_BUDGET = 64 * 1024
LONGEST_LINE = 32 * 1024
TAIL_LINES = 40


class RotatingFile:
    """An append-only file that is renamed to `.1`, `.2`, … when it outgrows `max_bytes`."""

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Append; rotates before a write that would go over the limit. A full disk loses lines, not the daemon."""
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        try:
            self._size += os.write(self._descriptor, data)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _rotate(self) -> None:
        os.close(self._descriptor)
        for number in range(self._backups, 0, -1):
            source = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if source.exists():
                source.replace(self._path.with_name(f"{self._path.name}.{number}"))
        if self._backups == 0:
            self._path.unlink(missing_ok=True)
        self._descriptor = self._open()
        self._size = 0


class _Stream:
    """One pipe that is read into one file."""

    def __init__(self, descriptor: int, name: str, file: RotatingFile, tail: deque[str]) -> None:
        self.descriptor = descriptor
        self.name = name
        self.file = file
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
            self._line(rest[:LONGEST_LINE], redact)
            rest = rest[LONGEST_LINE:]
        self.partial = rest
        return len(data) == READ_BUDGET

    def _line(self, line: bytes, redact: Callable[[bytes], bytes]) -> None:
        clean = redact(line)
        self.tail.append(clean.decode("utf-8", "backslashreplace"))
        self.unwritten.append(clean + b"\n")


class LogKeeper:
    """Makes log pipes, one an incarnation, and keeps one file a name."""

    def __init__(
        self, folder: Path, *, redact: Callable[[bytes], bytes], max_bytes: int = 10 * 1024**2, backups: int = 5
    ) -> None:
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
            stream = _Stream(source, name, self._file(name), self._tails[name])
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
            with self._lock:
                file = self._file(name)
            file.write(self._redact(line.encode("utf-8", "backslashreplace")) + b"\n")

    def _serve(self, stream: _Stream) -> None:
        with stream.lock:
            if not stream.ended:
                stream.take(self._redact)
            lines, stream.unwritten = stream.unwritten, []
            ended = stream.ended
        if lines:
            stream.file.write(b"".join(lines))
        if ended:
            with self._lock:
                self._selector.unregister(stream.descriptor)
                del self._streams[stream.descriptor]
            os.close(stream.descriptor)
