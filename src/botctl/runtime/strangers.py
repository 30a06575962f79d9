"""Processes that a bot's own code has left: adopted by the supervisor, and ended when their bot has ended.

A process group is not enough: a subprocess may have made a session of its own. So everything below the forkserver
carries marks in its environment, which also outlive the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

RUN = "BOTCTL_RUN"
"""Environment variable: which daemon a process belongs to."""

INCARNATION = "BOTCTL_INCARNATION"
"""Environment variable: which incarnation of which child, as `key/incarnation`."""

_INCARNATION = re.compile(rb"(?:^|\0)BOTCTL_INCARNATION=(-?\d+)/(\d+)\0")


def children() -> Iterator[int]:
    """Pids of our own children, adopted ones included."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, (task / "children").read_text().split())


def end_orphans(known: set[int], is_over: Callable[[int, int], bool]) -> int:
    """KILL our unknown children whose incarnation is over, as `is_over(key, incarnation)` tells; how many."""
    ended = 0
    for pid in children():
        if pid in known:
            continue
        match = _INCARNATION.search(_environment(pid))
        if match is not None and is_over(int(match[1]), int(match[2])):
            ended += _kill(pid)
    return ended


def end_all_but(known: set[int]) -> int:
    """KILL all our unknown children; how many. For the end of the daemon."""
    return sum(_kill(pid) for pid in children() if pid not in known)


def end_marked(run: str) -> None:
    """KILL every process that carries the mark of this run, except ourselves."""
    mark = f"{RUN}={run}\0".encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in _environment(int(entry.name)):
            _kill(int(entry.name))


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return 0
    return 1
