"""Which account an embedded server runs as, and whether that account can reach a path.

As root a server is run as an unprivileged account with a passwd entry (initdb refuses root and looks its name up);
otherwise as the caller. Never changes the mode of a folder it has not made.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from botctl.errors import DataFolderError, RefusedError


@dataclass(frozen=True)
class Account:
    """Who a server runs as. `uid` and `gid` are None when that is the caller."""

    uid: int | None
    gid: int | None

    def give(self, path: Path) -> None:
        """Make the account the owner of `path`."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_account(names: tuple[str, ...], owned: Path | None = None) -> Account:
    """The account for a server: the owner of `owned` if it exists, else the first of `names` that there is.

    Raises DataFolderError when `owned` is of an account that we may not use.
    """
    owner = owned.stat().st_uid if owned is not None and owned.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise DataFolderError(
                f"{owned} belongs to {_name(owner)}, not to {_name(os.geteuid())}",
                hint="Start botctl as that user, or choose another --data-dir.",
            )
        return Account(None, None)
    if owner == 0:
        raise DataFolderError(f"{owned} belongs to root, but its server must not run as root", hint="chown it.")
    for entry in _entries(owner, names):
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise RefusedError(
        f"root must not run the embedded servers, and there is no user {' or '.join(names)}",
        hint="Create one of these users, or start botctl as an ordinary user.",
    )


def _entries(owner: int | None, names: tuple[str, ...]) -> list[pwd.struct_passwd]:
    found = []
    for wanted in (owner,) if owner is not None else names:
        try:
            found.append(pwd.getpwuid(wanted) if isinstance(wanted, int) else pwd.getpwnam(wanted))
        except KeyError:
            continue
    return found


def check_reachable(folder: Path, account: Account) -> None:
    """Raise DataFolderError, naming the folder in the way, unless `account` can enter `folder`."""
    obstacle = first_obstacle(folder, account)
    if obstacle is not None:
        raise DataFolderError(
            f"{_name(account.uid)}, who runs the embedded servers, cannot enter {obstacle}, which leads to {folder}",
            hint=f"Choose a --data-dir elsewhere, for example below /var/lib, or `chmod o+x {obstacle}`.",
        )


def first_obstacle(path: Path, account: Account) -> Path | None:
    """The first folder on the way to `path`, `path` included if it is one, that `account` can't enter."""
    if account.uid is None:
        return None
    real = Path(os.path.realpath(path))
    for folder in [*reversed(real.parents), real]:
        if folder.is_dir() and not allowed(folder, account, 0o1):
            return folder
    return None


def allowed(path: Path, account: Account, bits: int) -> bool:
    """Whether the mode of `path` gives `account` these rwx bits (as of `others`)."""
    if account.uid is None:
        return os.access(path, bits)
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
    return (mode >> shift) & bits == bits


def _name(uid: int | None) -> str:
    uid = os.geteuid() if uid is None else uid
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
