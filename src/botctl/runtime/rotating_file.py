"""A log file of bounded size. Never raises: what can't be written is lost, and counted."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

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
        """Append; what can't be appended is lost."""
        if not self.offer(data):
            self.lost += 1

    def offer(self, data: bytes) -> bool:
        """Append, all of it or nothing; rotates before a write that would go over the limit. False when it can't."""
        try:
            if self._descriptor < 0:
                self._open()
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
                self._open()
            if self.lost:
                self._append(f"[botctl: {self.lost} writes were lost]\n".encode())
                self.lost = 0
            self._append(data)
        except OSError:
            return False
        return True

    def _append(self, data: bytes) -> None:
        """On a disk that is nearly full a part is written, then none; that part is taken back."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

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
