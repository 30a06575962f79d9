"""What a folder holds that its modes keep from a bot's uid, and CAP_DAC_READ_SEARCH opens: for Landlock to keep closed.

Only looks. Access lists are not known here: who is let in by one is kept out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

LOOKED_AT = 20_000
"""Entries looked at, at most, some 5 µs each. What lies beyond in folders that were not reached stays closed."""

PLACES = ("/usr/local/bin", "/usr/local/sbin", "/usr/local/etc", "/usr/etc")
"""Where administrators keep files of their own, below folders that every bot may read."""

_READ, _SEARCH = 0o4, 0o1


class Closed(NamedTuple):
    """Paths that stay closed, and what an operator should know of it."""

    paths: list[str]
    note: str = ""


def closed_to(
    uid: int, folder: str, private: Iterable[str] = (), places: Iterable[str] = PLACES, at_most: int = LOOKED_AT
) -> Closed:
    """What this uid, with the group of the same number alone, couldn't read below the handlers' folder and the others.
    It doesn't look into what is private anyway, nor into hidden folders beside the handlers.

    Python files right in the handlers' folder are never closed: they are its handlers. Where no other user could read
    any code in it, modes tell nothing of what is private, and close nothing.
    """
    found = _Look(uid, frozenset(private), at_most)
    for place in places:
        found.below(os.path.realpath(place))
    if not folder:
        return Closed(found.closed, found.note())
    elsewhere, found.closed = found.closed, []
    real = os.path.realpath(folder)
    found.below(real, handlers=True)
    if found.closed_code and not found.open_code:
        note = f"no code in {folder} is readable by others (chmod -R go+rX), so that modes there close nothing"
        return Closed(elsewhere, note)
    return Closed([*elsewhere, *found.closed], found.note())


class _Look:
    def __init__(self, uid: int, private: frozenset[str], at_most: int) -> None:
        self._uid = uid
        self._private = private
        self._left = at_most
        self._unseen = ""
        self.closed: list[str] = []
        self.open_code = self.closed_code = False

    def note(self) -> str:
        return f"too many files: {self._unseen} and what is no nearer stays closed" if self._unseen else ""

    def below(self, top: str, *, handlers: bool = False) -> None:
        """Breadth first: what stands far below is what goes without."""
        folders = deque([top])
        while folders:
            place = folders.popleft()
            if self._left <= 0:
                self._unseen = self._unseen or place
                self.closed.append(place)
                continue
            with contextlib.suppress(OSError), os.scandir(place) as entries:
                for entry in entries:
                    self._left -= 1
                    self._look(entry, folders, of_handlers=handlers and place == top)

    def _look(self, entry: os.DirEntry[str], folders: deque[str], *, of_handlers: bool) -> None:
        linked = entry.is_symlink()
        if linked and not of_handlers:
            return  # what it leads to is allowed where that stands, or nowhere
        path = os.path.realpath(entry.path) if linked else entry.path
        if path in self._private or (of_handlers and entry.name.startswith(".")):
            return
        try:
            found = entry.stat()
        except OSError:
            return
        is_folder = stat.S_ISDIR(found.st_mode)
        may = self._may(found, _READ | (_SEARCH if is_folder else 0))
        code = path.endswith(".py") or (is_folder and of_handlers and os.path.exists(f"{path}/__init__.py"))
        if code:
            self.open_code, self.closed_code = self.open_code or may, self.closed_code or not may
        if not may and not (of_handlers and path.endswith(".py")):
            self.closed.append(path)
        elif is_folder:
            folders.append(path)

    def _may(self, found: os.stat_result, wanted: int) -> bool:
        shift = 6 if found.st_uid == self._uid else 3 if found.st_gid == self._uid else 0
        return found.st_mode >> shift & wanted == wanted
