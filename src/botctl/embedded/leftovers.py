"""Ends a PostgreSQL that outlived its daemon, and clears the lock file of one that is gone.

A server is known by its working folder, which is its data folder: a process id in a file may be anybody's by now.
Never touches a server that botctl has not started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from botctl.errors import DataFolderError

PATIENCE = 10.0
"""Seconds to wait after each signal before the next, harder one."""


def end_leftover_postgres(data: Path, mark: str) -> None:
    """End servers of ours that still run on `data`; the caller holds the data folder's lock, so they are leftovers.

    `mark` is in the command line of every server of ours. Raises DataFolderError for a server that isn't.
    """
    lock = data / "postmaster.pid"
    running = _running_in(data)
    postmaster = _first_line(lock)
    for pid in running:
        if pid == postmaster and mark not in _command_line(pid):
            raise DataFolderError(
                f"{data} is in use by the PostgreSQL server with process id {pid}, which botctl has not started",
                hint="Stop that server first.",
            )
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if not running:
            break
        for pid in [postmaster] if postmaster in running and number is not signal.SIGKILL else running:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + PATIENCE
        while (running := _running_in(data)) and time.monotonic() < deadline:
            time.sleep(0.02)
    if running:
        raise DataFolderError(f"{data} is in use by processes that do not end: {running}", hint="End them.")
    # Nobody works there. Its process id may be another process's by now, which would keep the new server from starting.
    lock.unlink(missing_ok=True)


def _running_in(data: Path) -> list[int]:
    """Ids of PostgreSQL's processes whose working folder is `data`."""
    found = []
    wanted = os.path.realpath(data)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") == wanted and "postgres" in os.path.basename(os.readlink(entry / "exe")):
                found.append(int(entry.name))
    return sorted(found)


def _command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _first_line(lock: Path) -> int | None:
    try:
        return int(lock.read_text("utf-8", "replace").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
