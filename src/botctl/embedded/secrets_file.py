"""The administrator's password of an embedded server: random, in a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_password(path: Path) -> str:
    """Make a new password and put it into `path`, whole or not at all."""
    password = secrets.token_urlsafe(32)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{password}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return password


def read_password(path: Path) -> str | None:
    """The password in `path`; None when there is none."""
    try:
        return path.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
