"""The fleet's master keys: 256 bits each, with a version; they wrap the bots' data keys and nothing else.

Several may be held at a time, the current one first, so that a rotation can be under way. They come from a systemd
credential, from the environment, or from a file that the first start makes. Standard library only: the daemon imports
this. Never makes a key over data that is sealed with another one, never shows a key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from botctl.errors import VaultError

SIZE = 32
"""Bytes of a key."""

FILE_NAME = "master.key"
CREDENTIAL_NAME = "botctl-master-key"
VARIABLE = "BOTCTL_MASTER_KEY"

_LONGEST = 64 * 1024
_ENTRY = re.compile(r"(?:(?P<version>[1-9][0-9]{0,8}):)?(?P<key>[A-Za-z0-9+/_=-]+)")
_FORM = "one or more of VERSION:KEY, the current one first, each KEY 32 bytes in base64 or hexadecimal"
_HEAD = """\
# Master keys of a botctl fleet, the current one first. Whoever has this file and the database can read every secret in
# it; without this file nobody can. Keep a copy where you keep the database's backups, but not beside them.
"""


class Source(StrEnum):
    """Where master keys come from."""

    CREDENTIAL = "credential"
    ENVIRONMENT = "environment"
    NAMED_FILE = "named file"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One version of the master key."""

    version: int
    material: bytes = field(repr=False)

    @property
    def check(self) -> str:
        """Tells one key from another, and nothing of the key: kept beside what it wraps."""
        return hmac.new(self.material, b"botctl master key", hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All versions that are held, at least one; the first is the current one, which wraps."""

    keys: tuple[MasterKey, ...]

    @property
    def current(self) -> MasterKey:
        """The one that wraps."""
        return self.keys[0]

    @property
    def versions(self) -> tuple[int, ...]:
        """The current one's first."""
        return tuple(key.version for key in self.keys)

    def find(self, version: int) -> MasterKey | None:
        """The key of this version."""
        return next((key for key in self.keys if key.version == version), None)

    def renewed(self) -> MasterKeys:
        """With a new current key before those that are held."""
        return MasterKeys((_new_key(max(self.versions) + 1), *self.keys))

    def settled(self) -> MasterKeys:
        """The current key alone."""
        return MasterKeys((self.current,))

    def words(self) -> list[str]:
        """What must never stand in a log."""
        return [_encoded(key) for key in self.keys]

    def text(self) -> str:
        """As `parse` reads it, on one line."""
        return ",".join(f"{key.version}:{_encoded(key)}" for key in self.keys)


@dataclass(frozen=True, slots=True)
class Found:
    """Master keys as an operator has given them."""

    keys: MasterKeys
    source: Source
    path: Path | None = None
    """The file they are from, if they are from one."""


def new_keys() -> MasterKeys:
    """Version 1, from the system's random numbers."""
    return MasterKeys((_new_key(1),))


def parse(text: str) -> MasterKeys:
    """Read keys, separated by commas or space; a key without a version is version 1. Raises VaultError."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    keys: list[MasterKey] = []
    for word in " ".join(lines).replace(",", " ").split():
        match = _ENTRY.fullmatch(word)
        material = _material(match["key"]) if match is not None else None
        if match is None or material is None:
            raise VaultError("the master key can't be read", hint=f"Write {_FORM}.")
        keys.append(MasterKey(int(match["version"] or 1), material))
    if not keys:
        raise VaultError("there is no master key where one should be", hint=f"Write {_FORM}.")
    if len({key.version for key in keys}) < len(keys) or len({key.material for key in keys}) < len(keys):
        raise VaultError("two master keys have the same version, or are the same", hint=f"Write {_FORM}.")
    return MasterKeys(tuple(keys))


def find(env: Mapping[str, str], data_dir: Path) -> Found | None:
    """Keys of the systemd credential, else of the environment, else of the data folder's file; None without any.

    Raises VaultError for keys that can't be read, and for a file that others may read (the credential's folder is
    closed to them).
    """
    if folder := env.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder) / CREDENTIAL_NAME
        if credential.exists():
            return Found(_parse_file(credential), Source.CREDENTIAL, credential)
    value, file = env.get(VARIABLE), env.get(f"{VARIABLE}_FILE")
    if value and file:
        raise VaultError(f"{VARIABLE} and {VARIABLE}_FILE are both set", hint="Set one of them.")
    if value:
        try:
            return Found(parse(value), Source.ENVIRONMENT)
        except VaultError as error:
            raise VaultError(f"{VARIABLE}: {error.message}", hint=error.hint) from None
    if file:
        path = Path(file)
        return Found(_parse_text(path, _read_named(path)), Source.NAMED_FILE, path)
    own = read_file(data_dir)
    return None if own is None else Found(own, Source.FILE, data_dir / FILE_NAME)


def read_file(data_dir: Path) -> MasterKeys | None:
    """Keys of the data folder's file, None when there is none. Raises VaultError when others may read or write it."""
    path = data_dir / FILE_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise VaultError(f"{path} can't be read: {error.strerror}", hint="Run this as the daemon's user.") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise VaultError(f"{path} is no file")
        if found.st_uid not in (os.geteuid(), 0):
            raise VaultError(f"{path} belongs to user {found.st_uid}", hint="The daemon's user must own it.")
        if mode := stat.S_IMODE(found.st_mode) & 0o077:
            raise VaultError(
                f"{path} is open to others (mode {mode:04o} too wide)",
                hint="A bot of the daemon's user (level landlock or none) may have changed that, if nobody else has. "
                f"Could anybody on this machine read it meanwhile? If not: chmod 600 {path}",
            )
        body = file.read(_LONGEST)
    return _parse_text(path, body)


def create_file(data_dir: Path) -> MasterKeys:
    """Make a key and its file. Raises VaultError when there is a file already."""
    keys = new_keys()
    path = data_dir / FILE_NAME
    temporary = _write_temporary(path, keys)
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        raise VaultError(f"{path} exists already") from None
    except OSError as error:
        raise VaultError(f"{path} can't be made: {error.strerror}") from error
    finally:
        temporary.unlink()
    _sync_folder(data_dir)
    return keys


def replace_file(data_dir: Path, keys: MasterKeys) -> None:
    """Put these keys into the file: afterwards it holds either all the old or all the new ones. Raises VaultError."""
    path = data_dir / FILE_NAME
    temporary = _write_temporary(path, keys)
    try:
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise VaultError(f"{path} can't be replaced: {error.strerror}") from error
    _sync_folder(data_dir)


def verify(keys: MasterKeys | None, in_use: Iterable[tuple[int, str]], where: str) -> None:
    """Raise VaultError unless these keys open what is sealed. `in_use` are versions and checks, as the database has
    them; `where` says from where the keys are, or should be.
    """
    in_use = sorted(set(in_use))
    if not in_use:
        return
    wanted = ", ".join(dict.fromkeys(str(version) for version, _ in in_use))
    if keys is None:
        raise VaultError(
            f"the master key is lost: the database has data keys wrapped by version {wanted}, and there is no {where}",
            hint=f"Put your copy of it back: as {where}, as {VARIABLE}, or as the systemd credential "
            f"{CREDENTIAL_NAME}. Nothing was changed, and no new key was made: it could open nothing.",
        )
    for version, check in in_use:
        key = keys.find(version)
        if key is None:
            held = ", ".join(str(one) for one in keys.versions)
            raise VaultError(
                f"master key version {version} is missing: the database's data keys are wrapped by version {wanted}, "
                f"and {where} has {held}",
                hint=f"Add version {version} to {where} again; `botctl secrets rotate-master` then finishes.",
            )
        if not hmac.compare_digest(key.check, check):
            raise VaultError(
                f"the master key is another one: version {version} of {where} is not the one that has wrapped the "
                "database's data keys",
                hint="Put the right key there, or name the database that belongs to this one. Nothing was changed.",
            )


def at_start(text: str, source: str, in_use: Iterable[tuple[int, str]], data_dir: Path) -> MasterKeys:
    """The keys a daemon goes on with: those it was given, else the file's, if they are the right ones (`verify`); where
    there have never been any, new ones in the data folder's file. Raises VaultError."""
    _remove_leftovers(data_dir)
    keys = parse(text) if text else read_file(data_dir)
    verify(keys, in_use, place(Source(source), data_dir))
    return keys if keys is not None else create_file(data_dir)


def place(source: Source, data_dir: Path) -> str:
    """Where keys of this source are, in an operator's words."""
    match source:
        case Source.CREDENTIAL:
            return f"the credential {CREDENTIAL_NAME}"
        case Source.ENVIRONMENT:
            return VARIABLE
        case Source.NAMED_FILE:
            return f"the file that {VARIABLE}_FILE names"
        case Source.FILE:
            return str(data_dir / FILE_NAME)


def _encoded(key: MasterKey) -> str:
    return base64.urlsafe_b64encode(key.material).decode()


def _new_key(version: int) -> MasterKey:
    return MasterKey(version, secrets.token_bytes(SIZE))


def _material(text: str) -> bytes | None:
    try:
        if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            return bytes.fromhex(text)
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == SIZE else None


def _parse_file(path: Path) -> MasterKeys:
    try:
        body = path.read_bytes()[:_LONGEST]
    except OSError as error:
        raise VaultError(f"the master key {path} can't be read: {error.strerror}") from error
    return _parse_text(path, body)


def _read_named(path: Path) -> bytes:
    """A file that the operator has named. Its group may read it: some orchestrators give secrets no other way."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise VaultError(f"{path}, which {VARIABLE}_FILE names, can't be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISFIFO(found.st_mode):
            os.set_blocking(descriptor, True)  # a shell's <(command)
        elif not stat.S_ISREG(found.st_mode):
            raise VaultError(f"{path}, which {VARIABLE}_FILE names, is no file")
        if found.st_uid not in (os.geteuid(), 0):
            raise VaultError(f"{path}, which {VARIABLE}_FILE names, belongs to user {found.st_uid}")
        if mode := stat.S_IMODE(found.st_mode) & 0o037:
            raise VaultError(
                f"{path}, which {VARIABLE}_FILE names, is open to others (mode {mode:04o} too wide)",
                hint=f"Was it read by somebody? If not: chmod 600 {path}; for a container's secret, `mode: 0400`.",
            )
        return file.read(_LONGEST)


def _remove_leftovers(data_dir: Path) -> None:
    """Half-written files of a rotation that was killed; they have keys in them. The caller holds the data folder."""
    for leftover in data_dir.glob(f".{FILE_NAME}.*"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _parse_text(path: Path, body: bytes) -> MasterKeys:
    try:
        return parse(body.decode("ascii"))
    except UnicodeDecodeError:
        raise VaultError(f"{path}: the master key can't be read", hint=f"Write {_FORM}.") from None
    except VaultError as error:
        raise VaultError(f"{path}: {error.message}", hint=error.hint) from None


def _write_temporary(path: Path, keys: MasterKeys) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    body = _HEAD + keys.text().replace(",", "\n") + "\n"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(body)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise VaultError(f"{temporary} can't be written: {error.strerror}") from error
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
