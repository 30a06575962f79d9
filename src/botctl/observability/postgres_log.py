"""Messages of the embedded PostgreSQL: one JSON document a line, in files that its collector writes and rotates.

What a bot can put into a message is escaped in it; `user` is who has logged in, or who was tried. Never removes a file
that the server still writes to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

READ_MOST = 16 << 20
"""Bytes of one `read`: a flood is worked off over several."""

KEEP_MOST = 256 << 20
"""Bytes that may wait to be read; the oldest beyond are dropped unread, and told."""

LONGEST_MESSAGE = 500
_LONGEST_LINE = 64 << 10
"""Of a longer line, which only a session that prints its own plans can make, the beginning counts."""


class Entry(msgspec.Struct, frozen=True):
    """What is read of a message. `user` is empty for the server's own."""

    timestamp: str = ""
    user: str = ""
    dbname: str = ""
    pid: int = 0
    remote_host: str = ""
    error_severity: str = ""
    state_code: str = ""
    message: str = ""

    @property
    def line(self) -> str:
        """For people: one line."""
        who = f" {self.user}@{self.dbname}" if self.user else ""
        code = f" {self.state_code}" if self.state_code not in ("", "00000") else ""
        text = "".join(c if c.isprintable() else " " for c in self.message[: LONGEST_MESSAGE + 1])
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE - 1]}…"
        return f"{self.timestamp} [{self.pid}]{who} {self.error_severity}{code}: {text}"


_decode = msgspec.json.Decoder(Entry).decode


def entry_of(line: bytes) -> Entry | None:
    """The message in a line; None for what is none, such as the last words of a process that crashed."""
    if len(line) > _LONGEST_LINE:
        return None
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class ServerLog:
    """The files in `<home>/log`; `home` is the embedded server's folder.

    How far each was read stands in `<home>/log.read`, so that what is written while nobody reads is read later. `keep`
    is for the one who reads for good; anybody else may `read` besides him.
    """

    def __init__(self, home: Path) -> None:
        self.dropped = 0
        """Bytes that were never read."""
        self._folder = home / "log"
        self._current = home / "data" / "current_logfiles"
        self._note = home / "log.read"
        self._read = self._noted()
        self._kept = dict(self._read)
        self._broken: set[str] = set()
        """Files whose line goes on where reading will."""

    def read(self) -> list[bytes]:
        """Lines that are new, `READ_MOST` bytes at most. Raises OSError when the folder can't be read."""
        lines: list[bytes] = []
        room = READ_MOST
        for file, waiting_bytes in self._waiting():
            if room <= 0:
                break
            if waiting_bytes > 0:
                found = self._lines(file, room)
                lines += found
                room -= sum(map(len, found)) + 1
        return lines

    def keep(self) -> None:
        """Remember what was read, and remove files that were read to their end. Raises OSError."""
        in_use = self._in_use()
        for file, waiting_bytes in self._waiting():
            if waiting_bytes <= 0 and file.name not in in_use:
                file.unlink(missing_ok=True)
                # Beside it stands one for what is written past the server's own log, by a process that crashes.
                file.with_suffix("").unlink(missing_ok=True)
                self._read.pop(file.name, None)
        if self._read != self._kept:
            fresh = self._note.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._read))
            fresh.replace(self._note)
            self._kept = dict(self._read)

    def _lines(self, file: Path, room: int) -> list[bytes]:
        offset = self._read.get(file.name, 0)
        with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
            stream.seek(offset)
            block = stream.read(room)
            whole, newline, _ = block.rpartition(b"\n")
            if not newline:
                if len(block) == READ_MOST:
                    self._read[file.name] = offset + len(block)
                    self._broken.add(file.name)
                return []
            self._read[file.name] = offset + len(whole) + 1
            lines = whole.split(b"\n")
            if file.name in self._broken:
                self._broken.remove(file.name)
                del lines[0]
            return lines
        return []

    def _waiting(self) -> list[tuple[Path, int]]:
        """Each file, and how much of it is unread. What could never be read in time is left out, the oldest first."""
        found = []
        for entry in sorted(os.scandir(self._folder), key=lambda one: one.name):
            if entry.name.endswith(".json"):
                with contextlib.suppress(FileNotFoundError):
                    size = entry.stat().st_size
                    found.append((Path(entry.path), size - self._read.get(entry.name, 0)))
        too_much = sum(size for _, size in found) - KEEP_MOST
        for number, (file, size) in enumerate(found[:-1]):
            if too_much > 0 and size > 0:
                self._read[file.name] = self._read.get(file.name, 0) + size
                self.dropped += size
                too_much -= size
                found[number] = (file, 0)
        return found

    def _in_use(self) -> set[str]:
        """Names of the files that the server writes to now. They needn't be the latest by name: clocks are set back."""
        try:
            lines = self._current.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return set()
        return {os.path.basename(line.partition(" ")[2]) for line in lines}

    def _noted(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            return {}


def waiting(home: Path) -> Iterator[str]:
    """For people: the messages that nobody has read for good yet, as when the server is all that runs."""
    with contextlib.suppress(OSError):
        yield from (entry.line for entry in map(entry_of, ServerLog(home).read()) if entry is not None)
