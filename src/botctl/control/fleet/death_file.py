"""Reading `logs/deaths.log`: how incarnations ended, written by the supervisor whether there is a database or not.

One line of JSON a death, in the words of `ports.Transition`. Whatever can't be read as such is passed over: a daemon
may have been killed, or a disk been full, in the middle of a line. Never writes. Light: commands import it too.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from botctl.control.ports import Transition

NAME = "deaths"
"""Stem of the file, which no bot may have as its name."""

TAIL_BYTES = 2 * 1024 * 1024
"""How much of the end of the files is read."""

_BACKUPS = 9
_BEGINNING = b'{"type":"Lifecycle"'
_LATEST_TIME = 1e11
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decoder = msgspec.json.Decoder(Transition)


def death_files(logs: Path) -> list[Path]:
    """The files that there are, newest first. Raises PermissionError."""
    current = logs / f"{NAME}.log"
    named = [current, *(current.with_name(f"{current.name}.{number}") for number in range(1, _BACKUPS + 1))]
    return [file for file in named if _exists(file)]


def read_deaths(logs: Path, *, limit: int = TAIL_BYTES) -> list[Transition]:
    """The deaths in the last `limit` bytes of the files, newest first. Raises OSError where it may not read."""
    found: dict[tuple[int, int, float], Transition] = {}
    left = limit
    for file in death_files(logs):
        if left <= 0:
            break
        body = _tail(file, left)
        left -= len(body)
        for line in body.splitlines():
            death = _death(line)
            if death is not None:  # the same line twice: the files were rotated meanwhile
                found[death.bot_id, death.incarnation, death.at] = death
    return sorted(found.values(), key=lambda death: (death.at, death.seq), reverse=True)


def _death(line: bytes) -> Transition | None:
    # A half line that was never ended has the next record behind it.
    for start in sorted({line.find(_BEGINNING), line.rfind(_BEGINNING)}):
        if start < 0:
            return None
        try:
            told = _decoder.decode(line[start:])
        except _REFUSED:
            continue
        return told if told.exit is not None and 0 <= told.at < _LATEST_TIME else None
    return None


def _tail(file: Path, limit: int) -> bytes:
    """The last bytes of the file; they may begin within a line."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - limit))
            return opened.read(limit)
    except FileNotFoundError:
        return b""


def _exists(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
