"""Which process has an flock on a file or a folder, as the kernel tells it. Takes no lock, so that it disturbs nobody.

Standard library only: commands ask this too.
"""

from __future__ import annotations

import os
from pathlib import Path

LOCKS = Path("/proc/locks")


def holder(path: Path) -> int | None:
    """Pid of the process that took an exclusive flock on what stands at `path`; None when nobody is seen to have one.

    Who lives in another PID namespace isn't seen, nor anybody where a file system numbers its devices its own way.
    """
    try:
        status = path.stat()
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        # `1: FLOCK  ADVISORY  WRITE 708 08:01:1234 0 EOF`; who waits for a lock has `->` behind the number.
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5] == wanted:
            return int(fields[4]) if fields[4].isdigit() and fields[4] != "0" else None
    return None
