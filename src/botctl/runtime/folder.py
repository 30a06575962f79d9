"""The data folder of a running daemon: its lock, its note for the commands, and why it did not come up."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from botctl.errors import DataFolderError, RefusedError
from botctl.runtime import linux

LONGEST_SOCKET_PATH = 100
"""AF_UNIX takes 107 bytes; some libraries append to the path."""


class DataFolder:
    """Made by the daemon; holds `run/daemon.lock` for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self._lock: int | None = None
        self._socket_folder: Path | None = None

    def acquire(self) -> None:
        """Take the folder. Raises DataFolderError when a live daemon has it or it can't be written."""
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.run.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.run / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            kind = RefusedError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else DataFolderError
            raise kind(
                f"the data folder {self.path} can't be used: {error.strerror} ({error.filename})",
                hint="Name another with --data-dir or BOTCTL_DATA_DIR, or correct its owner and rights.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = self.note().get("pid")
            os.close(lock)
            raise DataFolderError(
                f"the data folder {self.path} is in use by a running daemon (pid {pid})",
                hint="Stop it with `botctl stop`, or name another folder with --data-dir.",
            ) from error
        self._lock = lock
        (self.run / "boot-error.txt").unlink(missing_ok=True)
        (self.run / "daemon.pid").write_text(f"{os.getpid()}\n")

    def socket_path(self) -> Path:
        """Where the API listens: in `run/`, or, where that path is too long for a socket, in a folder of its own."""
        usual = self.run / "api.sock"
        if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
            return usual
        self._socket_folder = Path(tempfile.mkdtemp(prefix="botctl-"))
        return self._socket_folder / "api.sock"

    def write_note(self, **fields: Any) -> None:
        """Replace `run/daemon.json`: what the commands need to know of this daemon."""
        note = {"pid": os.getpid(), "process_started": linux.start_ticks(os.getpid()), **fields}
        fresh = self.run / "daemon.json.new"
        fresh.write_text(json.dumps(note, indent=2) + "\n")
        fresh.chmod(0o600)
        fresh.replace(self.run / "daemon.json")

    def note(self) -> dict[str, Any]:
        """What the last daemon wrote; empty when there is nothing readable."""
        try:
            note = json.loads((self.run / "daemon.json").read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def write_boot_error(self, message: str) -> None:
        """Leave word of why the daemon did not come up, for the command that waits for it."""
        (self.run / "boot-error.txt").write_text(message + "\n")

    def release(self) -> None:
        """Take the notes away and let the folder go."""
        if self._lock is None:
            return
        for name in ("daemon.json", "daemon.pid", "api.sock"):
            (self.run / name).unlink(missing_ok=True)
        if self._socket_folder is not None:
            (self._socket_folder / "api.sock").unlink(missing_ok=True)
            self._socket_folder.rmdir()
        os.close(self._lock)
        self._lock = None
