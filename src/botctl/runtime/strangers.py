"""Processes that a bot's own code has left: adopted by the supervisor, and ended when their bot has ended.

A process group is not enough: a subprocess may have made a session of its own. So everything below the forkserver
carries marks, which also outlive the supervisor: in its environment, and, as long as it has exec'd nothing, in its
title. What has changed both on purpose is found by its control group only, or at the end of the daemon.
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

LOOKS = 3
"""How often a process is looked at that has no mark; it may have been about to exec."""

AT_ONCE = 50
"""Processes looked at in one round; each takes some 30 µs."""

_INCARNATION = re.compile(rb"(?:^|\0)BOTCTL_INCARNATION=(-?\d+)/(\d+)\0")
_TITLE = re.compile(rb"^botctl: [^\0]*\[(-?\d+)/(\d+) ([0-9a-f]+)\](?:\0|$)")
_RUN_IN_TITLE = 8

Mark = tuple[int, int]


class Orphans:
    """Our unknown children; remembers whose each is, so that they may be many."""

    def __init__(self) -> None:
        self._marks: dict[int, Mark | None] = {}
        self._looks: dict[int, int] = {}

    def end(self, known: set[int], is_over: Callable[[int, int], bool]) -> bool:
        """KILL those whose incarnation is over, as `is_over(key, incarnation)` tells. False when there are too many to
        look at in one round."""
        found = [pid for pid in children() if pid not in known]
        gone = self._looks.keys() - set(found)
        for pid in gone:
            self.forget(pid)
        left = AT_ONCE
        for pid in found:
            if pid not in self._marks and left:
                left -= 1
                self._look(pid)
            mark = self._marks.get(pid)
            if mark is not None and is_over(*mark):
                _kill(pid)
        return left > 0

    def forget(self, pid: int) -> None:
        """It has been waited for: another process may get its number."""
        self._marks.pop(pid, None)
        self._looks.pop(pid, None)

    def _look(self, pid: int) -> None:
        self._looks[pid] = self._looks.get(pid, 0) + 1
        mark = mark_of(pid)
        if mark is not None or self._looks[pid] >= LOOKS:
            self._marks[pid] = mark


def title(name: str, mark: str, run: str) -> str:
    """A child's title, with its marks; `ps` shows it."""
    return f"botctl: {name} [{mark} {run[:_RUN_IN_TITLE]}]"


def mark_of(pid: int) -> Mark | None:
    """Key and incarnation of the child that a process comes from; None when it doesn't say."""
    match = _INCARNATION.search(_read(pid, "environ")) or _TITLE.search(_read(pid, "cmdline"))
    return (int(match[1]), int(match[2])) if match is not None else None


def children() -> Iterator[int]:
    """Pids of our own children, adopted ones included; none when no descriptor is left to look with."""
    try:
        tasks = list(Path("/proc/self/task").iterdir())
    except OSError:
        return
    for task in tasks:
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def end_all_but(known: set[int]) -> int:
    """KILL all our unknown children; how many. For the end of the daemon."""
    return sum(_kill(pid) for pid in children() if pid not in known)


def end_marked(run: str) -> None:
    """KILL every process that carries the mark of this run, except ourselves."""
    mark, short = f"{RUN}={run}\0".encode(), run[:_RUN_IN_TITLE].encode()
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdigit() else os.getpid()
        if pid == os.getpid():
            continue
        titled = _TITLE.search(_read(pid, "cmdline"))
        if mark in _read(pid, "environ") or (titled is not None and titled[3] == short):
            _kill(pid)


def _read(pid: int, file: str) -> bytes:
    try:
        descriptor = os.open(f"/proc/{pid}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 1 << 18)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return 0
    return 1
