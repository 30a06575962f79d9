"""Rights on the data folder that the daemon can't do without, or nobody else may have: looked at, and put back.

Landlock doesn't keep a bot of the daemon's uid from changing modes. What it leaves between the two bounds is an
operator's choice, and stays. Never touches what belongs to somebody else, nor what is in the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Bounds(NamedTuple):
    """Bits that must be there, and bits that mustn't."""

    needed: int
    forbidden: int


_FOLDER, _FILE = Bounds(0o700, 0o022), Bounds(0o600, 0o022)
_CLOSED_FOLDER, _SECRET = Bounds(0o700, 0o077), Bounds(0o600, 0o077)

WATCHED = {
    "": Bounds(0o700, 0o002),  # first: nothing below is reached without it
    "run": _FOLDER,
    "logs": Bounds(0o700, 0o007),
    "bots": _FOLDER,
    "code": _CLOSED_FOLDER,
    "postgres": _FOLDER,
    "postgres/admin.password": _SECRET,
    "valkey": _FOLDER,
    "master.key": _SECRET,
    "api.token": _SECRET,
    "audit.head": _FILE,
    "quarantine.pending": _FILE,
}
"""By path in the data folder. A part of what is there: to look at all of it every second would be too much."""


class Mended(NamedTuple):
    """What was found otherwise, and is put back, or can't be."""

    path: str
    was: int
    now: int
    error: str = ""


class FolderModes:
    """`mend` is called every second or so; a look costs some 20 µs."""

    def __init__(self, folder: Path) -> None:
        self._paths = [(str(folder / name) if name else str(folder), bounds) for name, bounds in WATCHED.items()]

    def mend(self) -> Iterator[Mended]:
        """Put back what is out of bounds."""
        for path, bounds in self._paths:
            try:
                found = os.lstat(path)
            except OSError:
                continue
            mode = stat.S_IMODE(found.st_mode)
            wanted = (mode | bounds.needed) & ~bounds.forbidden
            if mode == wanted or found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
                continue
            try:
                os.chmod(path, wanted)
            except OSError as error:
                yield Mended(path, mode, mode, str(error))
            else:
                yield Mended(path, mode, wanted)
