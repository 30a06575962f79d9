"""Which start of a child a process descends from, noted where its own code can't forge it: in two resource limits.

Limits go to whatever is forked or exec'd, into whatever session and environment, and without CAP_SYS_RESOURCE a hard
limit can only be lowered. One holds a number and the other what that lacks to a constant, so that turning one number
into another takes raising one of the two. Neither limits anything: Linux has ignored that on locks since 2.4, and the
other, 70 000 years of processor and more, is for real-time processes.

Where limits can't be set like this (gVisor; a daemon that has lower ones itself) there is none to be found, and nothing
is left but the marks of `strangers`.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from typing import NamedTuple

_LOCKS = 10
"""RLIMIT_LOCKS, which `resource` has no name for."""
_REALTIME = 15
"""RLIMIT_RTTIME."""

_BITS = 60
_WHOLE = (1 << _BITS) - 1
_BASE = 2 << _BITS
"""Added to both limits: neither is ever small, whatever the number."""
_STARTS = 32
"""Bits of the number that tell one start from another; the others are the daemon's run."""

_LIMITS = re.compile(rb"^Max (?:file locks|realtime timeout) +\S+ +(\d{1,20}|unlimited) ", re.MULTILINE)


class Lineage(NamedTuple):
    """The run of a daemon, as `run_number` has it, and the number of a start in it."""

    run: int
    start: int


def run_number(run: str) -> int:
    """What stands for a run: the beginning of its name, which is hexadecimal."""
    return int(run[: (_BITS - _STARTS) // 4], 16)


def write(run: str, start: int) -> None:
    """Be a descendant of this start from now on, and all that we fork with us.

    Does nothing without a run, or where limits are lower already.
    """
    if not run:
        return
    number = run_number(run) << _STARTS | start & (1 << _STARTS) - 1
    limits = {_LOCKS: _BASE + number, _REALTIME: _BASE + _WHOLE - number}
    # Both or none: one alone would look as if somebody had lowered the other.
    if all(resource.getrlimit(which)[1] in (resource.RLIM_INFINITY, limit) for which, limit in limits.items()):
        with contextlib.suppress(OSError, ValueError):
            for which, limit in limits.items():
                resource.setrlimit(which, (limit, limit))


def read(pid: int) -> Lineage | None:
    """What a process descends from; None when it doesn't say, or isn't there."""
    return _decoded(_limits(pid))


def is_tampered_with(pid: int) -> bool:
    """Whether it has limits like these, though they say nothing and aren't what we have ourselves: somebody below has
    lowered them."""
    limits = _limits(pid)
    return limits is not None and limits != _limits(os.getpid()) and _decoded(limits) is None


def _limits(pid: int) -> tuple[int, int] | None:
    """The hard limits; unlike `prlimit` anybody may read these of anybody."""
    try:
        descriptor = os.open(f"/proc/{pid}/limits", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = _LIMITS.findall(os.read(descriptor, 4096))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(found) != 2:
        return None
    locks, realtime = (resource.RLIM_INFINITY if one == b"unlimited" else int(one) for one in found)
    return locks, realtime


def _decoded(limits: tuple[int, int] | None) -> Lineage | None:
    if limits is None or limits[0] + limits[1] != 2 * _BASE + _WHOLE or not _BASE <= limits[0] <= _BASE + _WHOLE:
        return None
    number = limits[0] - _BASE
    return Lineage(number >> _STARTS, number & (1 << _STARTS) - 1)
