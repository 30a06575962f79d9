"""A bot's own folder and, as root, its own uid: chosen once, remembered as the owner of that folder.

Uids come from a range that no passwd entry uses. The same bot has the same uid for as long as its folder stands.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

from botctl.runtime.messages import Isolation

TEMPORARY = "tmp"
"""Folder in a bot's own one, for TMPDIR; what an earlier incarnation left there is removed."""

SWEPT = 1000
"""Leftovers removed at a start, at most; the others at the next ones."""

TRIES = 1000


def make_home(wish: Isolation) -> None:
    """Make the bot's own folder, 0700, and those above it. Raises OSError."""
    home = Path(wish.home)
    if not home.is_dir():
        home.parent.mkdir(mode=0o711, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)


def own_uid(wish: Isolation) -> int:
    """The uid of this bot: that of its folder, if it is of the range, or a new one. Raises OSError."""
    if wish.uid_count < 1:
        raise OSError(0, "no range of uids is given")
    home = Path(wish.home)
    owner = home.stat().st_uid
    if _in_range(owner, wish):
        return owner
    folder = os.open(home.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two bots that are new must not choose the same
        taken = {entry.stat(follow_symlinks=False).st_uid for entry in os.scandir(home.parent)}
        uid = _choose(wish, taken)
        os.chown(home, uid, uid)
        return uid
    finally:
        os.close(folder)


def give_home(home: str, uid: int, gid: int) -> None:
    """Make this uid the owner of the folder and of all in it, if it isn't. As root. Raises OSError."""
    temporary = os.path.join(home, TEMPORARY)
    with contextlib.suppress(FileExistsError):
        os.mkdir(temporary, 0o700)
    if all(os.lstat(path).st_uid == uid for path in (home, temporary)):
        return
    for _, folders, files, descriptor in os.fwalk(home, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(home, uid, gid)


def live_in(home: str) -> None:
    """Make the folder our working directory, HOME and the place of temporary files. Raises OSError."""
    temporary = os.path.join(home, TEMPORARY)
    os.chdir(home)
    with contextlib.suppress(FileExistsError):
        os.mkdir(temporary, 0o700)
    os.environ["HOME"] = home
    os.environ["TMPDIR"] = temporary
    _sweep(temporary)
    import tempfile

    tempfile.tempdir = None


def _choose(wish: Isolation, taken: Collection[int]) -> int:
    seed = hashlib.blake2b(f"{wish.home}".encode(), digest_size=8).digest()
    first = int.from_bytes(seed, "big") % wish.uid_count
    for step in range(min(TRIES, wish.uid_count)):
        uid = wish.uid_base + (first + step) % wish.uid_count
        if uid not in taken and not _is_somebody(uid):
            return uid
    raise OSError(0, f"no uid is free from {wish.uid_base} to {wish.uid_base + wish.uid_count - 1}")


def _in_range(uid: int, wish: Isolation) -> bool:
    return wish.uid_base <= uid < wish.uid_base + wish.uid_count


def _is_somebody(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _sweep(folder: str) -> None:
    left = SWEPT
    with contextlib.suppress(OSError, RecursionError):
        for _, folders, files, descriptor in os.fwalk(folder, topdown=False, follow_symlinks=False):
            for name in (*files, *folders):
                left -= 1
                if left < 0:
                    return
                with contextlib.suppress(OSError):
                    if stat.S_ISDIR(os.lstat(name, dir_fd=descriptor).st_mode):
                        os.rmdir(name, dir_fd=descriptor)
                    else:
                        os.unlink(name, dir_fd=descriptor)
