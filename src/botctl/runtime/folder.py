"""The data folder of a running daemon: its lock, its note for the commands, and why it failed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from botctl.errors import BotctlError, DataFolderError, RefusedError
from botctl.runtime import linux, locks

LONGEST_SOCKET_PATH = 100
"""AF_UNIX takes 107 bytes; some libraries append to the path."""

_NO_FOLDER_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP})
"""What file systems say that can't lock a folder, such as NFS: the lock of the file has to do there."""


class DataFolder:
    """Made by the daemon; holds a lock on the folder itself, and on `run/daemon.lock`, for as long as it lives.

    The folder's own inode stays while it is in use, whatever is deleted in it and wherever it is moved to. Both
    descriptors are closed in whatever is started.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self._lock: int | None = None
        self._folder_lock: int | None = None
        self._socket_folder: Path | None = None

    def acquire(self) -> None:
        """Take the folder. Raises DataFolderError when a live daemon has it, RefusedError when it can't be written.

        Pid files that a killed daemon left mean nothing: the kernel has let its lock go.
        """
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock_folder()
            self.run.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.run / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            self._close()
            raise self._taken(holder) from error
        except OSError as error:
            self._close()
            raise self.unusable(error) from error
        try:
            (self.run / "boot-error.txt").unlink(missing_ok=True)
            (self.run / "daemon.json").unlink(missing_ok=True)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            (self.run / "daemon.pid").write_text(f"{os.getpid()}\n")
        except OSError as error:
            self.release()
            raise self.unusable(error) from error

    def _lock_folder(self) -> None:
        """Raises BlockingIOError when somebody has it."""
        self._folder_lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._folder_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_FOLDER_LOCKS:
                raise

    def _holder(self) -> str:
        """Pid of who has the folder: as the kernel tells, else as the holder has written. Empty when neither does."""
        file = self.run / "daemon.lock"
        if pid := locks.holder(self.path) or locks.holder(file):
            return str(pid)
        try:
            return file.read_text("ascii", "replace")[:32].strip()
        except OSError:
            return ""

    def _close(self) -> None:
        for descriptor in (self._lock, self._folder_lock):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._folder_lock = None

    def unusable(self, error: OSError) -> BotctlError:
        """The error of an operator whose folder can't be written, with the way out."""
        kind = RefusedError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else DataFolderError
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room there, or name another with --data-dir or BOTCTL_DATA_DIR."
        elif error.errno == errno.EROFS:
            hint = "Its file system is mounted read-only; name another with --data-dir or BOTCTL_DATA_DIR."
        elif error.errno in (errno.EMFILE, errno.ENFILE):
            hint = "Raise the limit on open files (`ulimit -n`); `botctl doctor` says how many are needed."
        else:
            hint = "Name another with --data-dir or BOTCTL_DATA_DIR, or correct its owner and rights."
        return kind(f"the data folder {self.path} can't be used: {error.strerror}{place}", hint=hint)

    def _taken(self, holder: str) -> DataFolderError:
        """Said of the daemon that has the lock; its note may not be written yet, or be an earlier daemon's."""
        note = self.note()
        doing = {"starting": "that is starting", "stopping": "that is stopping"}.get(note.get("state", ""), "")
        if str(note.get("pid")) != holder:
            doing = "that is starting or stopping"
        hint = "Stop it with `botctl stop`, or name another folder with --data-dir."
        if doing:
            hint = "Wait until it serves or has ended, or name another folder with --data-dir."
        if holder and not (self.run / "daemon.lock").exists():
            doing, hint = "whose notes were deleted", f"`kill -TERM {holder}` ends it and its bots."
        return DataFolderError(
            f"the data folder {self.path} is in use by a {'daemon ' + doing if doing else 'running daemon'}"
            f" (pid {holder or 'unknown'})",
            hint=hint,
        )

    def socket_path(self) -> Path:
        """Where the API listens: in `run/`, or, where that path is too long for a socket, in a folder of its own."""
        usual = self.run / "api.sock"
        if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
            return usual
        self._socket_folder = Path(tempfile.mkdtemp(prefix="botctl-"))
        return self._socket_folder / "api.sock"

    def new_api_token(self) -> str:
        """A new token for the commands, in `api.token`, which only we can read. Raises OSError."""
        token = secrets.token_urlsafe(32)
        fresh = self.path / ".api.token.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, token.encode())
        finally:
            os.close(descriptor)
        fresh.replace(self.path / "api.token")
        return token

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
        """Leave word of why the daemon failed, for the command that waits for it and for people."""
        (self.run / "boot-error.txt").write_text(message + "\n")

    def release(self) -> None:
        """Take the notes away and let the folder go. Never fails: what can't be taken away means nothing later."""
        if self._lock is None:
            return
        for name in ("daemon.json", "daemon.pid", "api.sock"):
            with contextlib.suppress(OSError):
                (self.run / name).unlink(missing_ok=True)
        if self._socket_folder is not None:
            with contextlib.suppress(OSError):
                (self._socket_folder / "api.sock").unlink(missing_ok=True)
                self._socket_folder.rmdir()
        self._close()
