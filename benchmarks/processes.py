"""What benchmarks ask of /proc, and how they end what they started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.stack import descendants, process_gone

TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Footprint:
    """One process at one moment. Memory in MB, processor time in seconds."""

    cpu: float
    pss: float
    private: float
    descriptors: int
    threads: int


def adopt_orphans() -> None:
    """Have every process that is started from here stay among our descendants, daemons too."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_on_signals() -> None:
    """Have SIGINT and SIGTERM end the benchmark by an exception, so that everything is cleaned up."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def finish_undisturbed() -> None:
    """From now on, while things are being cleaned up, a second Ctrl-C does nothing."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)


def title(pid: int) -> str:
    """A process's command line; empty when it is gone."""
    try:
        return (Path(f"/proc/{pid}/cmdline").read_bytes()).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def cpu(pid: int) -> float | None:
    """Seconds of processor time a process has used; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def footprint(pid: int) -> Footprint | None:
    """All figures of a process; None when it is gone. Others' processes need root."""
    folder = Path(f"/proc/{pid}")
    used = cpu(pid)
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
        memory = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
        threads = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("Threads:"))
        descriptors = len(list((folder / "fd").iterdir()))
    except (OSError, StopIteration):
        return None
    if used is None:
        return None
    private = memory["Private_Dirty:"] + memory["Private_Clean:"]
    return Footprint(used, memory["Pss:"], private, descriptors, int(threads.split()[1]))


def machine_cpu() -> float:
    """Seconds of processor time that all of the machine's processes and its kernel have used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / TICKS


def end(pids: Iterable[int], timeout: float = 10.0) -> None:
    """TERM to processes, by their pids, and KILL to those that are still there at the end."""
    waiting = set(pids)
    for sign, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
        for pid in waiting:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + patience
        while waiting and time.monotonic() < deadline:
            reap()
            waiting = {pid for pid in waiting if not process_gone(pid)}
            time.sleep(0.02)
        if not waiting:
            return


def end_all() -> None:
    """End everything that is below this process; needs `adopt_orphans`."""
    for _ in range(5):
        end(descendants(os.getpid()), timeout=2.0)
        reap()


def reap() -> None:
    """Take the exit codes of adopted children. Ends the knowledge of Popen objects about theirs, too."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
