"""The head of the audit log's chain outside the database: a file to which a line is added for every seal.

Who may write to the database can rewrite the whole chain; what was published of it stays. Lines are never changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from botctl.errors import BotctlError

NAME = "audit.head"


class HeadLine(msgspec.Struct, frozen=True):
    """One seal as published; `digest` in hexadecimal, `sealed_at` in seconds since the epoch."""

    seal: int
    digest: str
    entries: int = 0
    sealed_at: str = ""
    kind: str = "batch"


@dataclass(frozen=True)
class Head:
    """What a head file says. `broken` are numbers of lines that can't be read."""

    lines: list[HeadLine]
    broken: list[int]


def read_head(path: Path) -> Head:
    """The file's lines. Raises BotctlError when it is not there or can't be read."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise BotctlError(
            f"the head of the audit log, {path}, is not there",
            hint="Without it a log that was cut off at its end looks intact. A copy can be named with --head.",
        ) from None
    except OSError as error:
        raise BotctlError(f"the head of the audit log, {path}, can't be read: {error.strerror}") from error
    lines, broken = [], []
    for number, line in enumerate(body.splitlines(), start=1):
        if not line.strip():
            continue  # a writer was killed; its successor began a new line
        try:
            lines.append(msgspec.json.decode(line, type=HeadLine))
        except (msgspec.DecodeError, UnicodeDecodeError):
            broken.append(number)
    return Head(lines, broken)


def last_line(path: Path) -> HeadLine | None:
    """The newest seal that the file has; None without one. Raises OSError but for a file that isn't there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8192))
            tail = file.read()
    except FileNotFoundError:
        return None
    for line in reversed(tail.splitlines()):
        try:
            return msgspec.json.decode(line, type=HeadLine)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return None


def append_head(path: Path, lines: Sequence[HeadLine]) -> None:
    """Add lines, and return when they are on the disk. Raises OSError."""
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            body = b"\n" + body  # a writer was killed, or the disk was full, in the middle of a line
        while body:
            body = body[os.write(descriptor, body) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
