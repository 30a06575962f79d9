"""`run/daemon.json`: what a daemon says of itself, and whether that daemon still lives.

Slim: the daemon writes this file, every command reads it first.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from botctl.errors import NoDaemonError
from botctl.runtime import locks
from botctl.settings.places import DataFolder

_START_TIME_FIELD = 22
"""Of /proc/PID/stat: clock ticks from boot to the start of the process; with the pid it names a process for good."""


class DaemonNote(msgspec.Struct, frozen=True, kw_only=True):
    """What commands need of the file.

    `process_started` is field 22 of /proc/PID/stat; `socket` is where the API is served.
    """

    pid: int
    started_at: float
    process_started: int | None
    version: str
    state: str  # starting | serving | stopping
    socket: str
    data_dir: str
    telegram_base_url: str
    database_url_kind: str = "embedded"  # or external
    waiting: str = ""
    """What a start waits for, in words."""
    fleet_path: str | None = None
    """The file of the fleet that it was started with."""
    controllers: list[str] | None = None
    """Of control groups: those that limit its bots; None if it doesn't say."""


def read_note(folder: DataFolder) -> DaemonNote | None:
    """The note, or None when there is none. Raises PermissionError when the folder is another user's."""
    try:
        body = folder.daemon_note.read_bytes()
    except PermissionError:
        raise  # not "no daemon": the caller may not know
    except OSError:
        return None
    try:
        return msgspec.json.decode(body, type=DaemonNote)
    except msgspec.DecodeError:
        return None


def live_note(folder: DataFolder) -> DaemonNote | None:
    """The note of a daemon that is alive, else None; a note left by a killed daemon doesn't count."""
    note = read_note(folder)
    if note is None:
        return None
    started = process_started(note.pid)
    return note if started is not None and started == note.process_started else None


def require_note(folder: DataFolder) -> DaemonNote:
    """As `live_note`. Raises NoDaemonError, and says what was found where."""
    note = live_note(folder)
    if note is None:
        raise no_daemon(folder)
    return note


def no_daemon(folder: DataFolder) -> NoDaemonError:
    """Why no daemon can be spoken to: there is none, or it can't be seen from here."""
    if held_out_of_sight(folder):
        return NoDaemonError(
            f"the daemon that holds {folder.root} runs in another PID namespace, such as a container's",
            hint="Run this where it runs, as with `docker exec CONTAINER botctl …`.",
        )
    holder = locks.holder(folder.root)
    if holder is not None and _is_beyond_reach(folder):
        return NoDaemonError(
            f"a daemon (pid {holder}) holds {folder.root}, but {folder.daemon_note}, which says how to reach it, "
            f"{'is gone' if not folder.daemon_note.exists() else 'is not what it has written'}",
            hint=f"`kill -TERM {holder}` ends it and its bots; then `botctl start`.",
        )
    hint = "Start it with `botctl start`, or name its folder with --data-dir."
    if said := _last_words(folder):
        hint = f"The last one said: {said} ({folder.boot_error}). {hint}"
    return NoDaemonError(f"no daemon runs on {folder.root}", hint=hint)


def _last_words(folder: DataFolder) -> str:
    """Why the last daemon failed, the first line of it; empty when it didn't fail. The next one erases it."""
    try:
        lines = folder.boot_error.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in lines if line.strip()), "")


def _is_beyond_reach(folder: DataFolder) -> bool:
    """Whether the note beside a held lock can't be its daemon's. One that begins has a lock file, and no note yet."""
    if not folder.daemon_note.exists():
        return not (folder.run / "daemon.lock").exists()
    return live_note(folder) is None


def held_out_of_sight(folder: DataFolder) -> bool:
    """Whether a daemon that is not among the processes seen from here has the folder.

    A lock is tried only beside a note, which a daemon writes once it has the lock and removes before it lets it go;
    so a daemon that begins is not disturbed. Who has taken it here is among the processes seen.
    """
    if read_note(folder) is None or locks.holder(folder.root) is not None:
        return False
    if not (_is_locked(folder.root) or _is_locked(folder.run / "daemon.lock")):
        return False
    return live_note(folder) is None and read_note(folder) is not None


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


def process_started(pid: int) -> int | None:
    """Clock ticks from boot at which the process began; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if not fields or fields[0] in ("Z", "X"):
        return None
    return int(fields[_START_TIME_FIELD - 3])
