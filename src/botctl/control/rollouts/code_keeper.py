"""Keeps copies of developers' handlers, so that a rollout can be taken back after their files have changed.

A copy is of all Python sources below the fleet file's folder, named by content, under DATA/code. Which copy a bot was
last started with on purpose stands in an index there. Nothing here is run; a bot is told its copy by the supervisor.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.code")

MOST_FILES = 2_000
MOST_BYTES = 20_000_000
MOST_ENTRIES = 50_000
"""Files and folders looked at: a fleet file may stand in somebody's home."""

KEPT = 3
"""Copies beside those that bots were last started with."""

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
_INDEX = "index.json"
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of a link to nowhere, of one in a circle, and of a file that is gone meanwhile."""


class CodeKeeper:
    """`folder` is DATA/code. `problem` says why the newest code has no copy; empty when it has."""

    def __init__(self, folder: Path) -> None:
        self.problem = ""
        self._folder = folder
        self._used: dict[int, str] = self._read_index()

    async def keep(self, source: str | None) -> str:
        """Keep a copy of what stands in `source` now; its name, or nothing when it can't be kept."""
        if source is None:
            self.problem = "the fleet has no folder"
            return ""
        try:
            name = await asyncio.to_thread(self._keep, Path(source))
        except (OSError, BotctlError) as error:
            problem = error.message if isinstance(error, BotctlError) else f"{error.filename}: {error.strerror}"
            if problem != self.problem:
                _log.warning("handlers' code can't be kept; a rollout could not take it back", reason=problem)
            self.problem = problem
            return ""
        self.problem = ""
        return name

    def started(self, bots: Iterable[int], name: str) -> None:
        """These bots, by bot_id, are being started with this copy's code."""
        for bot_id in bots:
            if name:
                self._used[bot_id] = name
            else:
                self._used.pop(bot_id, None)
        try:
            self._write_index()
            self._prune()
        except OSError as error:
            _log.warning("the index of kept code can't be written", reason=str(error))

    def name_of(self, bot_id: int) -> str:
        """The copy that a bot was last started with; nothing when there is none."""
        name = self._used.get(bot_id, "")
        return name if name and (self._folder / name).is_dir() else ""

    def path_of(self, name: str) -> str:
        """Where a copy stands."""
        return str(self._folder / name) if name else ""

    def _keep(self, source: Path) -> str:
        files = list(sources(source, self._folder.parent))
        digest = hashlib.sha256()
        for name, body in files:
            digest.update(f"{name}\0{len(body)}\0".encode())
            digest.update(body)
        name = digest.hexdigest()[:32]
        place = self._folder / name
        if place.is_dir():
            os.utime(place)
            return name
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = self._folder / f".new-{secrets.token_hex(8)}"
        try:
            fresh.mkdir(mode=0o700)
            for path, body in files:
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(body)
            fresh.rename(place)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return name

    def _read_index(self) -> dict[int, str]:
        try:
            document = json.loads((self._folder / _INDEX).read_bytes())
            return {int(bot_id): str(name) for bot_id, name in document["bots"].items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return {}

    def _write_index(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = self._folder / f".{_INDEX}"
        fresh.write_text(json.dumps({"bots": self._used}, indent=1))
        fresh.replace(self._folder / _INDEX)

    def _prune(self) -> None:
        used = set(self._used.values())
        copies = [place for place in self._folder.iterdir() if place.is_dir() and place.name not in used]
        copies.sort(key=lambda place: place.stat().st_mtime, reverse=True)
        for place in copies[KEPT:]:
            shutil.rmtree(place, ignore_errors=True)


def sources(folder: Path, data_dir: Path) -> Iterator[tuple[str, bytes]]:
    """Every Python source below `folder` that may belong to handlers: its path and its body. Raises BotctlError.

    Left out: hidden folders, virtual environments, `node_modules`, bytecode, our own data, links to folders, links that
    lead out of `folder`, and what is no regular file.
    """
    count = size = entries = 0
    home = os.path.realpath(folder)
    for place, folders, names in os.walk(folder):
        entries += len(folders) + len(names)
        if entries > MOST_ENTRIES:
            raise BotctlError(f"more than {MOST_ENTRIES} files and folders stand in {folder}")
        folders[:] = sorted(name for name in folders if _belongs(Path(place, name), data_dir))
        for name in sorted(names):
            if not name.endswith(".py") or name.startswith("."):
                continue
            path = Path(place, name)
            if (found := _regular(path, home)) is None:
                continue
            real, length = found
            count, size = count + 1, size + length
            if count > MOST_FILES or size > MOST_BYTES:
                raise BotctlError(
                    f"{folder} has more than {MOST_FILES} Python files or {MOST_BYTES // 1_000_000} MB of them"
                )
            if (body := _read(real)) is not None:
                yield path.relative_to(folder).as_posix(), body


def _regular(path: Path, home: str) -> tuple[Path, int] | None:
    """The regular file at the end of all links and its bytes, if there is one and it stands below `home`."""
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
        inside = os.path.commonpath((real, home)) == home
        return (Path(real), status.st_size) if inside and stat.S_ISREG(status.st_mode) else None
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise


def _read(file: Path) -> bytes | None:
    """What stands in a regular file, as far as it went when it was opened; nothing of one that is gone or is another.

    A pipe or a device that has taken its place meanwhile is neither waited for nor read without an end.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise
    with open(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        return opened.read(status.st_size) if stat.S_ISREG(status.st_mode) else None


def _belongs(folder: Path, data_dir: Path) -> bool:
    if folder.name.startswith(".") or folder.name in _SKIPPED or (folder / "pyvenv.cfg").exists():
        return False
    return not (folder == data_dir or (data_dir.exists() and folder.exists() and folder.samefile(data_dir)))
