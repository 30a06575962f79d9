"""Thin wrappers round the Linux calls that Python has no name for. No policy."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
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


def be_expendable(niceness: int, oom_score: int) -> None:
    """Come after the others when processor or memory are short. Called after setsid, before `undumpable`."""
    os.nice(niceness)
    # Where the kernel groups sessions (autogroup), niceness counts only within one; the group has its own. It may be
    # set ten times a second on the whole machine; beyond that it stays as it is.
    with contextlib.suppress(OSError):
        _write("/proc/self/autogroup", str(niceness))
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj") as file:
        _write("/proc/self/oom_score_adj", str(min(1000, int(file.read()) + oom_score)))


def set_limit(pid: int, which: int, value: int) -> bool:
    """Give a running child a new limit, soft and hard (`resource.RLIMIT_…`; 0 for none); False when refused.

    Lowering is allowed for a process of our own uid and gid, dumpable or not. Raising the hard limit, and any change
    for a process of another uid, takes CAP_SYS_RESOURCE, which root in a container may lack.
    """
    limit = value or resource.RLIM_INFINITY
    try:
        resource.prlimit(pid, which, (limit, limit))
    except (OSError, ValueError):
        return False
    return True


def data_bytes(pid: int | str = "self") -> int:
    """What the kernel counts towards RLIMIT_DATA; 0 where it doesn't tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def data_limit(pid: int) -> int:
    """RLIMIT_DATA of a process in bytes; 0 without one, or without the process."""
    try:
        limit = resource.prlimit(pid, resource.RLIMIT_DATA)[0]
    except OSError:
        return 0
    return 0 if limit == resource.RLIM_INFINITY else limit


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid, its identity. None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == b"Z" else int(fields[19])


STATE_NOTES = {
    "T": "it had been stopped by a signal",
    "t": "a debugger had stopped it",
    "D": "it was stuck in the kernel, as by a disk or a network file system that does not answer",
}
"""What a process's state, as in proc(5), says about its silence."""


def process_state(pid: int) -> str:
    """The letter of proc(5); empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def tracers(pid: int, most: int = 100) -> set[int]:
    """Who traces a process (ptrace), or one of its threads: the first so many are looked at, which is all that a killed
    process has left but those that are traced. A traced process or thread that has ended stays until its tracer has
    waited for it, or has ended itself."""
    found = set()
    with contextlib.suppress(OSError):
        for thread in itertools.islice(os.scandir(f"/proc/{pid}/task"), most):
            with contextlib.suppress(OSError, ValueError), open(f"{thread.path}/status", "rb") as file:
                found.add(int(file.read().partition(b"\nTracerPid:")[2].split(b"\n", 1)[0]))
    return found - {0}


def signal_group(pid: int, sign: signal.Signals) -> None:
    """Signal a session leader and all of its process group; silent when they are gone."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, sign)
        except ProcessLookupError:
            continue
        except PermissionError:
            continue


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class RunQueue:
    """How long a thread has been able to run without getting a processor, by the kernel's account (`schedstat`).

    Of the thread that asks first. Where the kernel keeps no such account, it has never waited.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def waited(self) -> float:
        """Seconds so far."""
        if self._file is None:
            try:
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._file = -1
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, 128, 0).split()[1]) / 1e9
