"""How PostgreSQL shall make sure, after a crash, that what it had written before stands on the disk. Changes nothing.

Before it recovers, it has all that the kernel still holds in memory written, so that it never builds on pages that a
power cut could take back. By default it opens and fsyncs every file for that: a fleet has some 2,000 of them. `syncfs`
asks for the same in one call.

What it means (PostgreSQL's documentation of `recovery_init_sync_method`): a lot faster, unless others keep the file
system busy, whose files are written too; and before Linux 5.8 errors of the disk might not be reported. In both ways
PostgreSQL only logs such errors (`SyncDataDirectory` in its fd.c). fsync of what it writes itself, full pages in the
log and checksums are as they were. So it is used where a file system is known to do it fully; elsewhere, for example
on overlayfs and FUSE, which pass the call on in ways of their own, files are synced one by one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

SYNCFS_SINCE = (5, 8)
"""The Linux that reports errors of writing from syncfs."""

_WHOLE = frozenset({"ext4", "xfs", "btrfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


def sync_method(folder: Path, *, release: str | None = None, mounts: str | None = None) -> str:
    """The `recovery_init_sync_method` for a data folder; `release` and `mounts` are this machine's by default."""
    release = os.uname().release if release is None else release
    if _version(release) < SYNCFS_SINCE:
        return "fsync"
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return "fsync"
    return "syncfs" if file_system(Path(os.path.realpath(folder)), mounts) in _WHOLE else "fsync"


def file_system(path: Path, mounts: str) -> str:
    """Type of the file system that `path` lies on, by the text of `/proc/self/mountinfo`; empty when it isn't told."""
    longest, found = -1, ""
    for line in mounts.splitlines():
        fields, dash, rest = line.partition(" - ")
        words = fields.split(" ")
        if not dash or len(words) < 5:
            continue
        place = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), words[4])
        # Of several mounts on one place the last one is seen.
        if path.is_relative_to(place) and len(place) >= longest:
            longest, found = len(place), rest.split(" ")[0]
    return found


def _version(release: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match is not None else ()
