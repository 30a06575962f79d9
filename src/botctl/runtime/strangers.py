"""Processes that a bot's own code has left: adopted by the supervisor, and ended when their bot has ended.

A process group is not enough: a subprocess may have made a session of its own. So everything below the forkserver
has a `lineage`, which outlives the supervisor too and which no bot can forge.

Where there is none to be had, weaker marks are left: in its environment, and, as long as it has exec'd nothing, in its
title. A bot can write there what it likes, so of a bot's process, as its niceness shows, only such a mark counts as may
be true: that of a bot's incarnation which had been asked for when the process began. What has none (a new session with
an empty environment) is nobody's in particular. It is a bot's, though, when it is nicer than we are as bots are, which
cannot be taken back and which our servers and theirs are not; and it may be a dead bot's when it was started while that
one lived. It is ended then: nobody else would ever end it, and it keeps what it has inherited. That may hit what a bot
that lives on has hidden in the same way. As PID 1 we adopt whatever loses its parent in the container, and only wait
for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from botctl.runtime import lineage, linux
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
"""Processes looked at in one round; each takes some 50 µs."""

# Nobody can be made to count beyond what a number of ours can be.
_INCARNATION = re.compile(rb"(?:^|\0)BOTCTL_INCARNATION=(-?\d{1,20})/(\d{1,20})\0")
_TITLE = re.compile(rb"^botctl: [^\0]*\[(-?\d{1,20})/(\d{1,20}) ([0-9a-f]{1,32})\](?:\0|$)")
_RUN_IN_TITLE = 8

Mark = tuple[int, int]


@dataclass(frozen=True)
class Living:
    """The incarnations that have a process."""

    starts: Set[int]
    """Number of the start of each, as its `lineage` has it."""
    bots: Mapping[Mark, float]
    """Marks of the bots among them, and when the process of each was asked for, by the clock of `now`."""
    others: Set[Mark]
    """Marks of those that are no bots."""


@dataclass
class _Seen:
    """What is known of an adopted process."""

    start: int | None = None
    """Of its lineage."""
    mark: Mark | None = None
    """One that is believed."""
    looks: int = 0
    look_at: float = 0.0
    started: float | None = None
    """By the clock of `now`, when it came from a bot; None else."""

    @property
    def undecided(self) -> bool:
        return self.start is None and self.mark is None and self.looks < LOOKS


class Orphans:
    """Our unknown children; remembers whose each is, so that they may be many.

    `run` is the daemon's. `ends_unmarked`: also those of dead bots that don't say whose they are.
    """

    def __init__(self, run: str, *, ends_unmarked: bool) -> None:
        self._run = lineage.run_number(run)
        self._ends_unmarked = ends_unmarked
        self._seen: dict[int, _Seen] = {}
        self._spans: deque[tuple[float, float]] = deque(maxlen=SPANS)

    @property
    def undecided(self) -> bool:
        """Whether there are any that have to be looked at again."""
        return any(one.undecided for one in self._seen.values())

    def over(self, began: float) -> None:
        """The process of a bot, asked for at `began` by the clock of `now`, has ended."""
        self._spans.append((began, now()))

    def end(self, known: Set[int], who_lives: Callable[[], Living]) -> bool:
        """KILL those whose incarnation is over; False when there are too many to look at in one round.

        `who_lives` is called when there are any. None of those may be without a number of its start.
        """
        found = [pid for pid in children() if pid not in known]
        for pid in self._seen.keys() - set(found):
            self.forget(pid)
        if not found:
            return True
        left, moment, living = AT_ONCE, now(), who_lives()
        for pid in found:
            one = self._seen.setdefault(pid, _Seen())
            if one.undecided and one.look_at <= moment and left:
                left -= 1
                self._look(pid, one, moment, living)
            if self._is_over(one, living):
                _kill(pid)
        return left > 0

    def end_of(self, start: int, known: Set[int]) -> None:
        """KILL those of one start, whether it is over or not; not all of them when there are too many to look at."""
        left = AT_ONCE
        for pid in children():
            if pid in known:
                continue
            one = self._seen.setdefault(pid, _Seen())
            if one.undecided and left:
                left -= 1
                one.start = self._start(pid)
            if one.start == start:
                _kill(pid)

    def is_ours(self, pid: int) -> bool:
        """Whether a process descends from a child of this run."""
        return self._start(pid) is not None

    def forget(self, pid: int) -> None:
        """It has been waited for: another process may get its number."""
        self._seen.pop(pid, None)

    def _look(self, pid: int, one: _Seen, moment: float, living: Living) -> None:
        one.looks, one.look_at = one.looks + 1, moment + LOOK_AGAIN_AFTER
        one.start = self._start(pid)
        if one.start is not None:
            return
        started = _started(pid)
        mark = mark_of(pid)
        if mark is not None and _may_be_true(mark, living, started) and not _hides(pid, mark, living):
            one.mark = mark
        elif one.looks == LOOKS and self._ends_unmarked:
            one.started = started

    def _start(self, pid: int) -> int | None:
        found = lineage.read(pid)
        return found.start if found is not None and found.run == self._run else None

    def _is_over(self, one: _Seen, living: Living) -> bool:
        if one.start is not None:
            return one.start not in living.starts
        if one.mark is not None:
            return one.mark not in living.bots and one.mark not in living.others
        return one.started is not None and any(began - TICK <= one.started <= ended for began, ended in self._spans)


def _may_be_true(mark: Mark, living: Living, started: float | None) -> bool:
    """Whether a process may have this mark by descent; `started` as `_started` tells. An incarnation that is over
    protects nobody, so that there is no need to doubt it."""
    if started is None or mark not in living.bots:
        return started is None or mark not in living.others
    return living.bots[mark] <= started + TICK


def _hides(pid: int, mark: Mark, living: Living) -> bool:
    """Whether it says that it belongs to somebody who lives, though somebody has spoilt its lineage."""
    return (mark in living.bots or mark in living.others) and lineage.is_tampered_with(pid)


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
    """KILL every process that comes from this run, except ourselves."""
    mark, short, number = f"{RUN}={run}\0".encode(), run[:_RUN_IN_TITLE].encode(), lineage.run_number(run)
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdigit() else os.getpid()
        if pid == os.getpid():
            continue
        titled, descent = _TITLE.search(_read(pid, "cmdline")), lineage.read(pid)
        if (
            (descent is not None and descent.run == number)
            or mark in _read(pid, "environ")
            or (titled is not None and titled[3] == short)
        ):
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
