"""The kernel's files of control groups: read, written and listed without ever raising. No policy."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container, Iterator
from pathlib import Path

AT_ONCE = 100
"""Groups looked at in one go. A bot may make groups below its own, as many and as deep as the kernel lets it."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


def own_group(mountinfo: str, membership: str) -> Path | None:
    """Folder of our own group in the version 2 hierarchy, as the two files in /proc/self tell."""
    own = next((line[3:] for line in membership.splitlines() if line.startswith("0::/")), None)
    if own is None or own.endswith(" (deleted)") or "/.." in own:
        return None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if after.split()[:1] != ["cgroup2"] or len(fields) < 5:
            continue
        top, mount = (_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
        below = own.removeprefix(top.rstrip("/"))
        if top == "/" or own == top or own.startswith(f"{top}/"):
            return Path(mount) / below.lstrip("/")
    return None


def is_hierarchy_root(group: Path) -> bool:
    """The root is the only group without a type. In a namespace of its own, a container's top group has one."""
    return not (group / "cgroup.type").exists()


def tree(folder: Path) -> Iterator[Path]:
    """A group and those below it, at most `AT_ONCE` of them."""
    waiting = [str(folder)]
    for _ in range(AT_ONCE):
        if not waiting:
            return
        found = waiting.pop()
        yield Path(found)
        waiting += _below(found, AT_ONCE - len(waiting))


def removal(folder: Path) -> Iterator[None]:
    """Removes a group and all below it, step by step: each takes some 50 µs, and nobody knows how many there are.

    What holds processes stays, and with it what is above.
    """
    kept: set[str] = set()
    waiting = [str(folder)]
    while waiting:
        found = waiting.pop()
        yield
        if not remove_folder(Path(found)) or found in kept:
            continue
        below = _below(found, AT_ONCE, kept)
        if below:
            waiting += [found, *below]
        else:
            kept.add(found)


def _below(folder: str, most: int, without: Container[str] = ()) -> list[str]:
    """The first few groups right below one."""
    try:
        with os.scandir(folder) as entries:
            found = (one.path for one in entries if one.path not in without and one.is_dir(follow_symlinks=False))
            return list(itertools.islice(found, max(0, most)))
    except OSError:
        return []


def pids(group: Path) -> list[int]:
    """Who is in the group itself; 0 stands for processes of another pid namespace."""
    return [int(line) for line in text(group / "cgroup.procs").split() if line.isdigit()]


def populated(group: Path) -> bool:
    """Whether the group, or one below, holds a process that hasn't ended."""
    return field(text(group / "cgroup.events"), "populated") != 0


def field(content: str, name: str) -> int:
    """The number after `name` in a file of names and numbers; 0 when it isn't there."""
    for line in content.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def text(path: Path) -> str:
    """What stands in a file; empty when it can't be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def put(file: Path, value: str) -> str:
    """Write into one of the kernel's files; empty, or what went wrong."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"{value!r} into {file}: {error.strerror}"
    return ""


def make_folder(folder: Path) -> str:
    """Make a group, or take the one that is there; empty, or what went wrong."""
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def remove_folder(folder: Path) -> str:
    """Remove one group; empty, or what went wrong."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""
