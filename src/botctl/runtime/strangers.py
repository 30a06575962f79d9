"""Processes that a bot's own code has left: adopted by the supervisor, and ended when their bot has ended.

A process group is not enough: a subprocess may have made a session of its own. So everything below the forkserver
carries marks, which also outlive the supervisor: in its environment, and, as long as it has exec'd nothing, in its
title.

What has lost both (a new session with an empty environment) is nobody's in particular. It is a bot's, though, when it
is nicer than we are as bots are, which cannot be taken back and which our servers and theirs are not; and it may be a
dead bot's when it was started while that one lived. It is ended then: nobody else would ever end it, and it keeps what
it has inherited. That may hit what a bot that lives on has hidden in the same way; a subprocess that is to be safe from
it keeps its environment. As PID 1 we adopt whatever loses its parent in the container, and only wait for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from botctl.runtime import linux
from botctl.runtime.spawn import NICENESS

RUN = "BOTCTL_RUN"
"""Environment variable: which daemon a process belongs to."""

INCARNATION = "BOTCTL_INCARNATION"
"""Environment variable: which incarnation of which child, as `key/incarnation`."""

LOOKS = 3
"""How often a process is looked at that has no mark; it may have been about to exec."""

LOOK_AGAIN_AFTER = 0.2
"""Seconds between such looks."""

NICEST = 19

TICK = 0.01
"""The kernel's notes of when a process started are rounded down to this."""

SPANS = 200
"""Lives of bots that are remembered, the latest: whoever was started in one of them may be what it has left."""

AT_ONCE = 50
"""Processes looked at in one round; each takes some 30 µs."""

_INCARNATION = re.compile(rb"(?:^|\0)BOTCTL_INCARNATION=(-?\d+)/(\d+)\0")
_TITLE = re.compile(rb"^botctl: [^\0]*\[(-?\d+)/(\d+) ([0-9a-f]+)\](?:\0|$)")
_RUN_IN_TITLE = 8

Mark = tuple[int, int]


@dataclass
class _Seen:
    """What is known of an adopted process."""

    mark: Mark | None = None
    looks: int = 0
    look_at: float = 0.0
    started: float | None = None
    """By the clock of `now`, when it came from a bot; None else."""


class Orphans:
    """Our unknown children; remembers whose each is, so that they may be many.

    `ends_unmarked`: also those of dead bots that don't say whose they are.
    """

    def __init__(self, *, ends_unmarked: bool) -> None:
        self._ends_unmarked = ends_unmarked
        self._seen: dict[int, _Seen] = {}
        self._spans: deque[tuple[float, float]] = deque(maxlen=SPANS)

    @property
    def undecided(self) -> bool:
        """Whether there are any that have to be looked at again."""
        return any(one.mark is None and one.looks < LOOKS for one in self._seen.values())

    def over(self, began: float) -> None:
        """The process of a bot, asked for at `began` by the clock of `now`, has ended."""
        self._spans.append((began, now()))

    def end(self, known: set[int], is_over: Callable[[int, int], bool]) -> bool:
        """KILL those whose incarnation is over, as `is_over(key, incarnation)` tells. False when there are too many to
        look at in one round."""
        found = [pid for pid in children() if pid not in known]
        for pid in self._seen.keys() - set(found):
            self.forget(pid)
        left, moment = AT_ONCE, now()
        for pid in found:
            one = self._seen.setdefault(pid, _Seen())
            if one.mark is None and one.looks < LOOKS and one.look_at <= moment and left:
                left -= 1
                one.looks, one.look_at, one.mark = one.looks + 1, moment + LOOK_AGAIN_AFTER, mark_of(pid)
                if one.mark is None and one.looks == LOOKS and self._ends_unmarked:
                    one.started = _started(pid)
            if is_over(*one.mark) if one.mark is not None else self._is_left(one):
                _kill(pid)
        return left > 0

    def forget(self, pid: int) -> None:
        """It has been waited for: another process may get its number."""
        self._seen.pop(pid, None)

    def _is_left(self, one: _Seen) -> bool:
        return one.started is not None and any(began - TICK <= one.started <= ended for began, ended in self._spans)


def now() -> float:
    """The clock by which the kernel notes when a process starts; it goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _started(pid: int) -> float | None:
    """When a process was started that comes from a bot, as its niceness tells; None for any other."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        # Who is as nice as can be can't be told from its bots.
        if own >= NICEST or os.getpriority(os.PRIO_PROCESS, pid) < min(NICEST, own + NICENESS):
            return None
        ticks = linux.start_ticks(pid)
    except OSError:
        return None
    return ticks / os.sysconf("SC_CLK_TCK") if ticks is not None else None


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
