"""How much memory the bot's process has, and how much of it is of its own making: that is what its limits judge.

What the process inherits at its fork it shares with the forkserver and all other bots. Its share of that (PSS) grows
whenever one of them ends, through no doing of its own; so whatever was there at the fork counts for no bot.
"""

from __future__ import annotations

import os
import resource

_MB = 1e6
_PAGES = "/proc/self/smaps_rollup"
_STATUS = "/proc/self/status"


class OwnMemory:
    """Of this process. Keeps one descriptor open: a bot that can open no more files still knows its memory."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._anonymous = 0
        self._shared = 0
        self._data = 0
        self._gauges: dict[str, float] = {}

    def begin(self) -> None:
        """What the process has now was there at its fork. Called first thing in the process."""
        # These counters are exact after a fork and cost 0.03 ms; the other file takes a walk through all pages.
        status = _fields(_read(_STATUS))
        self._anonymous = status.get("RssAnon", 0) + status.get("VmSwap", 0)
        self._shared = status.get("RssShmem", 0)
        self._data = status.get("VmData", 0)
        self._open()

    def gauges(self) -> dict[str, float]:
        """`pss_mb` and `own_mb`, in MB (10^6 bytes); the last known where the kernel doesn't tell, if there are any.

        Own is what is in memory or swapped out, and no file's, beyond what the process had at its fork. Takes some ms.
        """
        found = _fields(self._pages())
        if "Pss" in found and "Anonymous" in found:
            anonymous = found["Anonymous"] - found.get("LazyFree", 0) + found.get("Swap", 0)
            # Of shared memory the whole, not the share that its own children leave it.
            shared = max(0, _fields(_read(_STATUS)).get("RssShmem", 0) - self._shared, found.get("Pss_Shmem", 0))
            own = max(0, anonymous - self._anonymous) + shared
            self._gauges = {"pss_mb": found["Pss"] / _MB, "own_mb": own / _MB}
        return dict(self._gauges)

    def data(self) -> int:
        """Bytes of its own that count towards the hard limit (RLIMIT_DATA), used or not; 0 where nobody tells."""
        return max(0, _fields(_read(_STATUS)).get("VmData", 0) - self._data)

    def data_limit(self) -> int:
        """What the hard limit leaves to the bot itself, in bytes; 0 without one, or where a control group keeps it."""
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return 0 if soft == resource.RLIM_INFINITY else max(1, soft - self._data)

    def _pages(self) -> bytes:
        for _ in range(2):
            try:
                if b"\nPss:" in (found := os.pread(self._descriptor, 4096, 0)):
                    return found
            except OSError:
                pass
            self._open()  # somebody has closed it, or put another in its place, which is theirs
        return b""

    def _open(self) -> None:
        try:
            self._descriptor = os.open(_PAGES, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1


own_memory = OwnMemory()
"""Of the process that the bot runs in."""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, MemoryError):
        return b""


def _fields(content: bytes) -> dict[str, int]:
    """Those of a file of /proc that are sizes, in bytes."""
    found = {}
    for line in content.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == b"kB" and words[1].isdigit():
            found[words[0].rstrip(b":").decode("ascii", "replace")] = int(words[1]) * 1024
    return found
