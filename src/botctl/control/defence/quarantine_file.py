"""Quarantines that the database doesn't know yet, in `DATA/quarantine.pending`, so that none is lost with `control`.

Written as a whole and on the disk before a command is answered; read by the next `control` of whatever daemon, until
the database has them. Readable for the daemon's user alone, and never for a bot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from botctl.storage.quarantines import Quarantined

NAME = "quarantine.pending"


class Pending(msgspec.Struct, frozen=True):
    """One bot that is to be shut away; `name` as the fleet called it then."""

    name: str
    told: Quarantined


def read_pending(path: Path) -> dict[int, Pending]:
    """By bot_id; nothing without a file. Raises OSError, and ValueError for a file that can't be read."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(body, type=dict[int, Pending])


def write_pending(path: Path, pending: Mapping[int, Pending]) -> None:
    """Have the file say this, and return when that is on the disk; without any there is no file. Raises OSError."""
    if not pending:
        path.unlink(missing_ok=True)
    else:
        fresh = path.with_name(f"{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(pending))
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
