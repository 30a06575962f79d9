"""Thin wrappers round the Linux calls that Python has no name for. No policy."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent(sign: int, parent: int) -> None:
    """Have the kernel send us `sign` when our parent, which must be the process `parent`, ends.

    The setting is lost at setuid, so call it afterwards. It follows the parent's *thread* that made us, or, for an
    adopted child, the parent's main thread. Exits at once when the parent is gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, sign)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def undumpable() -> None:
    """No core dump, no ptrace and no reading of our /proc entries by others of the same uid."""
    _prctl(_PR_SET_DUMPABLE, 0)


def no_new_privileges() -> None:
    """No set-uid program we exec gives us more rights."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid, its identity. None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == b"Z" else int(fields[19])


def signal_group(pid: int, sign: signal.Signals) -> None:
    """Signal a session leader and all of its process group; silent when they are gone."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, sign)
        except ProcessLookupError:
            continue
        except PermissionError:
            continue
