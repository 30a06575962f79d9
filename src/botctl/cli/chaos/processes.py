"""What /proc tells of processes below another one: who they are, and whether they have ended. Only looks."""

from __future__ import annotations

import contextlib
from pathlib import Path


def process_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children(pid: int) -> set[int]:
    """Its own children."""
    found: set[int] = set()
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= {int(child) for child in tasks.read_text().split()}
    return found


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        fresh = children(waiting.pop()) - found
        found |= fresh
        waiting += fresh
    return found


def command_line(pid: int) -> str:
    """Its arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def of_daemon(daemon: int, name: str) -> int | None:
    """The process of a bot, of `control`, the forkserver or a server below a daemon; None when there is none now."""
    for pid in sorted(children(daemon)):
        line = command_line(pid)
        program = line.partition(" ")[0].rpartition("/")[2]
        titled = line == f"botctl: {name}" or line.startswith(f"botctl: bot {name} ")
        if (titled or program in (name, f"{name}-server")) and not process_gone(pid):
            return pid
    return None
