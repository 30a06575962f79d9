"""Reading log files: the last lines, and what is appended, across rotations. Never writes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from botctl.control.fleet.death_file import NAME
from botctl.errors import NoSuchBotError
from botctl.settings.places import DataFolder

OURS = frozenset({"control", "daemon", "forkserver", "postgres", "sandbox", "setup", "valkey"})
"""Names of logs that are no bot's."""

POSTGRES_MESSAGES = "postgres-messages"
"""What the embedded server says once it runs, passed on by `control`; in `postgres` stands what comes before."""

_POLL = 0.1
_BLOCK = 64 * 1024
_LONGEST = 16 * 1024 * 1024


def log_files(folder: DataFolder, name: str | None) -> list[Path]:
    """The logs that there are, or the one of `name`. Raises NoSuchBotError when that has none.

    A process of the daemon's own may have written nothing yet: then its file is not there.
    `deaths.log` is no process's output but the history behind `botctl why`; it is shown only when it is named.
    """
    if folder.logs.is_dir():
        os.listdir(folder.logs)  # glob keeps silent about what it may not read
    found = sorted(folder.logs.glob("*.log"))
    if name == "postgres" and folder.log(POSTGRES_MESSAGES) in found:
        return [folder.log(name), folder.log(POSTGRES_MESSAGES)]
    if name is not None and ((wanted := folder.log(name)) in found or (name in OURS and folder.logs.is_dir())):
        return [wanted]
    found = [file for file in found if file != folder.log(NAME)]
    if name is None:
        return found
    names = ", ".join(file.stem for file in found)
    raise NoSuchBotError(f"there is no log of {name!r}", hint=f"There are: {names}." if names else None)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file; fewer when it is shorter."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            body = b""
            while position > 0 and body.count(b"\n") <= count and len(body) < _LONGEST:
                size = min(_BLOCK, position)
                position = file.seek(position - size)
                body = file.read(size) + body
    except FileNotFoundError:
        return []
    lines = body.decode("utf-8", "replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines[-count:]


def follow_logs(folder: DataFolder, name: str | None, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Lines as they are appended, for ever; files that appear and files that are rotated included."""
    readers = {file: _Reader(file, from_end=True) for file in files}
    while True:
        quiet = True
        if name is None:
            for file in log_files(folder, None):
                readers.setdefault(file, _Reader(file, from_end=False))
        for file, reader in readers.items():
            for line in reader.read():
                quiet = False
                yield file, line
        if quiet:
            time.sleep(_POLL)


class _Reader:
    """One log file, kept open; when its name stands for another file, that one is read from its beginning."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None and from_end:
            os.lseek(self._file, 0, os.SEEK_END)

    def read(self) -> Iterator[str]:
        if self._file is None:
            self._file = self._open()
            if self._file is None:
                return
        yield from self._lines(self._file)
        if self._replaced(self._file):
            yield from self._lines(self._file)
            os.close(self._file)
            self._file = self._open()

    def _lines(self, file: int) -> Iterator[str]:
        while block := os.read(file, _BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)

    def _replaced(self, file: int) -> bool:
        mine = os.fstat(file)
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if now.st_ino == mine.st_ino and now.st_size < os.lseek(file, 0, os.SEEK_CUR):
            os.lseek(file, 0, os.SEEK_SET)  # truncated in place
            return False
        return (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev)

    def _open(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
