"""What /proc tells of the daemon's processes: who is left of dead incarnations, descriptors and threads. Only looks."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from botctl.cli.chaos.processes import command_line, descendants, process_gone
from botctl.runtime.linux import start_ticks
from botctl.runtime.strangers import mark_of


@dataclass(frozen=True)
class Tally:
    """Descriptors, log files excepted, and threads of one process."""

    descriptors: int
    threads: int


def tally(pid: int) -> Tally:
    """Count them; the daemon's user or root may. Log files don't count: one is opened when its first line comes."""
    links = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links += not os.readlink(f"/proc/{pid}/fd/{name}").endswith(".log")
    return Tally(links, len(os.listdir(f"/proc/{pid}/task")))


def titled(daemon: int, title: str) -> list[int]:
    """Processes below the daemon whose title begins like that."""
    return [pid for pid in descendants(daemon) if command_line(pid).startswith(title)]


def forkserver(daemon: int) -> int:
    """The forkserver's pid, 0 without one. A child that was forked this moment still has its title, but is younger."""
    found = titled(daemon, "botctl: forkserver")
    return min(found, key=lambda pid: start_ticks(pid) or sys.maxsize, default=0)


def marked(mark: str) -> set[int]:
    """Processes of the whole machine, this one excepted, with a mark in their arguments: they can't hide it."""
    found = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if mark in command_line(int(entry.name)).split() and not process_gone(int(entry.name)):
            found.add(int(entry.name))
    return found


def of_incarnations(key: int, incarnations: set[int]) -> set[int]:
    """Processes of the whole machine that come from these incarnations of a bot, by their environment or title."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            mark = mark_of(int(entry.name))
            if mark is not None and mark[0] == key and mark[1] in incarnations and not process_gone(int(entry.name)):
                found.add(int(entry.name))
    return found


def strangers(daemon: int, known: set[int]) -> list[str]:
    """What is below the daemon though it is neither a known process nor below one."""
    legitimate = {daemon} | known
    for pid in known:
        legitimate |= descendants(pid)
    return [
        f"{pid} {command_line(pid)[:120]}"
        for pid in descendants(daemon)
        if pid not in legitimate and not process_gone(pid)
    ]


def own_group(pid: int, daemon: int) -> bool:
    """Whether a bot has a control group of its own, by which even processes without any mark are found."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cgroup").read_text() != Path(f"/proc/{daemon}/cgroup").read_text()
    return False
