"""Messages of the embedded PostgreSQL: one JSON document a line, in files that its collector writes and rotates.

What a bot can put into a message is escaped in it; `user` is who has logged in, or who was tried. A line may be of any
length, since the server writes whole statements into the context of an error: what counts stands before that. Never
removes a file that the server still writes to.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

READ_MOST = 16 << 20
"""Bytes of one `read`: a flood is worked off over several."""

KEEP_MOST = 256 << 20
"""Bytes that may wait to be read; the oldest beyond are dropped unread, and told."""

LONGEST_MESSAGE = 500
LONGEST_NAME = 64
HEAD = 64 << 10
"""Of a longer line the first bytes count. A name from before the login, which has 10,000 bytes at most with all else
that is said there, and the beginning of the message fit into it."""


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
        who = f" {plain(self.user, LONGEST_NAME)}@{plain(self.dbname, LONGEST_NAME)}" if self.user else ""
        code = f" {plain(self.state_code, 5)}" if self.state_code not in ("", "00000") else ""
        severity, at = plain(self.error_severity, LONGEST_NAME), plain(self.timestamp, LONGEST_NAME)
        return f"{at} [{self.pid}]{who} {severity}{code}: {plain(self.message, LONGEST_MESSAGE)}"


def plain(text: str, longest: int) -> str:
    """Somebody else's words, made fit for one line: names come from whoever greets the server, too."""
    clean = "".join(c if c.isprintable() else " " for c in text[: longest + 1])
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


_decode = msgspec.json.Decoder(Entry).decode

_FIELD = re.compile(rb'[{,]"([a-z_]+)":(?:"((?:[^"\\]|\\.)*+)"?|(-?[0-9]+))')
"""The next one. Within a string quotes and backslashes are escaped, so none can be taken for the end of another's."""


def entry_of(line: bytes) -> Entry | None:
    """The message in a line; None for what is none, such as the last words of a process that crashed."""
    if len(line) <= HEAD:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return _decode(line)
    return _head_of(line[:HEAD])


def _head_of(line: bytes) -> Entry | None:
    """The fields up to `message`, of a line that is cut off or holds what is no UTF-8.

    The server (PostgreSQL 15 to 18) writes timestamp, user, dbname, pid, …, error_severity, state_code, message,
    detail, …, context in this order.
    """
    found: dict[str, str | int] = {}
    at = 0
    while (field := _FIELD.match(line, at)) is not None:
        name = field[1].decode("ascii")
        if name in Entry.__struct_fields__:
            found.setdefault(name, int(field[3]) if field[3] is not None else _unescaped(field[2]))
        at = field.end()
        if name == "message":
            break
    try:
        return msgspec.convert(found, Entry) if "timestamp" in found or "message" in found else None
    except msgspec.ValidationError:
        return None


def _unescaped(text: bytes) -> str:
    """What stands between the quotes; as it is written when an escape at its end is cut off."""
    clean = text.decode("utf-8", "replace")
    try:
        return msgspec.json.decode(f'"{clean}"', type=str)
    except msgspec.DecodeError:
        return clean


class ServerLog:
    """The files in `<home>/log`; `home` is the embedded server's folder.

    How far each was read stands in `<home>/log.read`, so that what is written while nobody reads is read later. `keep`
    is for the one who reads for good; anybody else may `read` besides him.
    """

    def __init__(self, home: Path) -> None:
        self.dropped = 0
        """Bytes that were never read, or of a line longer than one `read`, whose beginning alone was."""
        self._folder = home / "log"
        self._current = home / "data" / "current_logfiles"
        self._note = home / "log.read"
        self._read = self._noted()
        self._kept = dict(self._read)
        self._broken: set[str] = set()
        """Files whose line, of which the beginning has been read, goes on where reading will."""

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
                if len(block) < READ_MOST:
                    return []
                self._read[file.name] = offset + len(block)
                head = [] if file.name in self._broken else [block[:HEAD]]
                self.dropped += len(block) - sum(map(len, head))
                self._broken.add(file.name)
                return head
            self._read[file.name] = offset + len(whole) + 1
            lines = whole.split(b"\n")
            if file.name in self._broken:
                self._broken.remove(file.name)
                self.dropped += len(lines.pop(0))
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
