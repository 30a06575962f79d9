"""Control groups (version 2 only): one for each child, so that the kernel limits and ends whole process trees.

Only a subtree that is ours alone is used; no group that holds a foreign process is ever changed. Nothing here raises,
whatever a bot has made of its group: what doesn't work is told to `note`, and the daemon goes on without.

Ours is
- our own group, when nobody else is in it and it has been given to us: by systemd (`Delegate=yes`, which it marks), or,
  where no systemd rules, by being our user's, or root's like us (a container of ours);
- where everybody starts in the hierarchy's root (no systemd) and we are root: a group `botctl-PID` below it. It has the
  controllers that the root hands down already; the root's own settings aren't touched.

The daemon itself moves into a leaf `supervisor`, for a group with limits for its children may not hold processes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from botctl.runtime import cgroup_files as files

P = ParamSpec("P")
R = TypeVar("R")
Note = Callable[[str], None]

CONTROLLERS = ("memory", "cpu", "pids")
CPU_PERIOD = 100_000
"""Microseconds; `cpu.max` grants a part of each."""
SMALLEST_CPU_QUOTA = 1000
KILL_TIMEOUT = 0.02
"""Seconds for ending the processes of a group one by one, where the kernel doesn't end them all at once."""
MOST_BELOW = 16
DEEPEST = 4
"""Groups that a bot may make below its own, and their depth."""
SWEEP_TIMEOUT = 0.005
"""Seconds for removing groups, each time that some are made or removed; one takes 50 µs."""
CLOSE_TIMEOUT = 1.0

_DONE = object()
_LEAF = "supervisor"
_OWN_PREFIX = "botctl-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")


def _never_raises(otherwise: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For methods of `Cgroups` that are called in the supervisor's loop: none of its bots may end it."""

    def wrap(method: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(method)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(*args, **kwargs)
            except Exception as error:
                with contextlib.suppress(Exception):
                    args[0]._note(f"control groups: {type(error).__name__}: {error}")  # type: ignore[attr-defined]
                return otherwise

        return guarded

    return wrap


class Cgroups:
    """The groups of one daemon, below `home`."""

    def __init__(self, home: Path, controllers: frozenset[str], note: Note, *, parent: Path | None = None) -> None:
        self.home = home
        self.controllers = controllers
        """Those of `CONTROLLERS` that limit our children; the other limits are silently no limits."""
        self._note = note
        self._parent = parent
        """Where the daemon came from, when `home` is a folder that we made."""
        self._made: set[str] = set()
        self._leftover: dict[str, Iterator[None]] = {}
        """Groups to be removed, each with how far that is."""

    @classmethod
    def detect(cls, note: Note = lambda _: None, *, root: Path = Path("/")) -> Cgroups | None:
        """Find our subtree and move into its leaf; None, with a note, where there is none.

        Called once, while the daemon has no children. `root` is another root folder, for tests.
        """
        own = files.own_group(files.text(root / "proc/self/mountinfo"), files.text(root / "proc/self/cgroup"))
        if own is None:
            note("control groups: no version 2 hierarchy")
            return None
        own = root / own.relative_to("/")
        if not (own / "cgroup.procs").exists():
            note(f"control groups: {own} is not there")
            return None
        parent = None
        if files.is_hierarchy_root(own):
            if os.geteuid() != 0 or (root / "run/systemd/system").exists():
                note("control groups: we are in the root group, which is not ours")
                return None
            parent = own
            _remove_old(own)
            home = own / f"{_OWN_PREFIX}{os.getpid()}"
        else:
            if own.name == _LEAF and files.pids(own) == [os.getpid()]:
                own = own.parent  # systemd's DelegateSubgroup=supervisor, or a daemon that has exec'd itself
            refusal = _why_not_ours(own, root)
            if refusal:
                note(f"control groups: {own} {refusal}")
                return None
            home = own
        leaf = home / _LEAF
        failed = (
            files.make_folder(home) or files.make_folder(leaf) or files.put(leaf / "cgroup.procs", str(os.getpid()))
        )
        if failed:
            note(f"control groups: {failed}")
            for folder in (leaf, *([home] if parent else [])):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return None
        offered = files.text(home / "cgroup.controllers").split()
        enabled = set()
        for controller in CONTROLLERS:
            if controller in offered:
                failed = files.put(home / "cgroup.subtree_control", f"+{controller}")
                if failed:
                    note(f"control groups: {controller}: {failed}")
                else:
                    enabled.add(controller)
        return cls(home, frozenset(enabled), note, parent=parent)

    @_never_raises("")
    def make(self, name: str, *, memory_max: int = 0, cpu: float = 0.0, processes: int = 0) -> str:
        """A group for one child: its folder, or "" when there is none. 0 is no limit.

        `memory_max` is in bytes, swap included; `cpu` in cores; `processes` counts threads as well. A group of this
        name that an earlier daemon has left is ended and used.
        """
        self._sweep()
        if not _NAME.fullmatch(name) or name == _LEAF:
            self._note(f"control groups: no name for a group: {name!r}")
            return ""
        folder = self.home / name
        failed = files.make_folder(folder)
        if failed:
            self._note(f"control groups: {failed}")
            return ""
        path = str(folder)
        self._made.add(path)
        self._leftover.pop(path, None)
        if files.populated(folder):
            self.kill(path)
        fixed = [("cgroup.max.descendants", str(MOST_BELOW)), ("cgroup.max.depth", str(DEEPEST))]
        if "memory" in self.controllers:
            fixed += [("memory.swap.max", "0"), ("memory.oom.group", "1")]
        for file, value in fixed:
            if (folder / file).exists():
                self._set(folder / file, value)
        self.adjust(path, memory_max=memory_max, cpu=cpu, processes=processes)
        return path

    @_never_raises(False)
    def adjust(
        self, path: str, *, memory_max: int | None = None, cpu: float | None = None, processes: int | None = None
    ) -> bool:
        """Change limits while the child runs; None leaves one as it is, 0 lifts it. False if one was not changed.

        The kernel ends what uses more memory than a lowered limit when it can't reclaim enough.
        """
        values: list[tuple[str, str, str]] = []
        if memory_max is not None:
            values.append(("memory", "memory.max", str(memory_max) if memory_max > 0 else "max"))
        if cpu is not None:
            quota = str(max(SMALLEST_CPU_QUOTA, round(cpu * CPU_PERIOD))) if cpu > 0 else "max"
            values.append(("cpu", "cpu.max", f"{quota} {CPU_PERIOD}"))
        if processes is not None:
            values.append(("pids", "pids.max", str(processes) if processes > 0 else "max"))
        done = True
        for controller, file, value in values:
            if controller in self.controllers:
                done = self._set(Path(path) / file, value) and done
            elif not value.startswith("max"):
                done = False
        return done

    @_never_raises(False)
    def kill(self, path: str) -> bool:
        """KILL every process in the group and below, whatever sessions they made. Their end comes a little later."""
        if path not in self._made:
            self._note(f"control groups: {path} is none of ours")
            return False
        folder = Path(path)
        if (folder / "cgroup.kill").exists():  # Linux 5.14
            return self._set(folder / "cgroup.kill", "1")
        files.put(folder / "cgroup.freeze", "1")  # who is frozen doesn't fork; KILL ends the frozen too
        killed: set[int] = set()
        until = time.monotonic() + KILL_TIMEOUT
        while True:
            found = {pid for group in files.tree(folder) for pid in files.pids(group)} - killed - {0, os.getpid()}
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            killed |= found
            if not found or time.monotonic() > until:
                break
        files.put(folder / "cgroup.freeze", "0")
        return not found

    @_never_raises(0)
    def oom_kills(self, path: str) -> int:
        """How many processes of the group the kernel has ended for want of memory."""
        return files.field(files.text(Path(path) / "memory.events"), "oom_kill")

    @_never_raises(False)
    def remove(self, path: str) -> bool:
        """Drop a group. One that still holds processes is tried again whenever groups are made or removed."""
        if path not in self._made:
            return False
        self._leftover[path] = files.removal(Path(path))
        self._sweep()
        return path not in self._leftover

    @_never_raises(None)
    def close(self) -> None:
        """End what is left in our groups, leave, and remove them. For the end of the daemon; takes up to a second."""
        for path in list(self._made):
            if not self.remove(path):
                self.kill(path)
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._leftover and time.monotonic() < deadline:
            time.sleep(0.005)
            self._sweep()
        for controller in self.controllers:
            files.put(self.home / "cgroup.subtree_control", f"-{controller}")
        back = self._parent or self.home
        failed = files.put(back / "cgroup.procs", str(os.getpid()))
        for folder in (self.home / _LEAF, *([self.home] if self._parent else [])):
            if not failed:
                failed = files.remove_folder(folder)
        if failed:
            self._note(f"control groups: {failed}")

    def _set(self, file: Path, value: str) -> bool:
        failed = files.put(file, value)
        if failed:
            self._note(f"control groups: {failed}")
        return not failed

    def _sweep(self) -> None:
        until = time.monotonic() + SWEEP_TIMEOUT
        for path, removal in list(self._leftover.items()):
            done = False
            while not done and time.monotonic() < until:
                done = next(removal, _DONE) is _DONE
            if not done:
                return  # to be gone on with
            del self._leftover[path]
            if os.path.isdir(path):
                self._leftover[path] = files.removal(Path(path))  # somebody was in it; again, after the others
            else:
                self._made.discard(path)


def machine_oom_kills(root: Path = Path("/")) -> int:
    """How many processes of the whole machine the kernel has ended for want of memory, since it was started."""
    return files.field(files.text(root / "proc/vmstat"), "oom_kill")


def _why_not_ours(own: Path, root: Path) -> str:
    """Why we must not make this group our home; empty when we may."""
    if not os.access(own, os.W_OK) or not os.access(own / "cgroup.procs", os.W_OK):
        return "can't be written by us"
    if files.text(own / "cgroup.type").strip() != "domain":
        return "is for threads"
    others = [pid for pid in files.pids(own) if pid != os.getpid()]
    if others:
        return f"holds other processes ({', '.join(map(str, others[:5]))})"
    owner, user = own.stat().st_uid, os.geteuid()
    if (root / "run/systemd/system").exists():
        # The mark is younger than the custom; a system's unit for our user shows by the change of owners.
        if _delegated(own) or (user != 0 and owner == user and own.parent.stat().st_uid != user):
            return ""
        return "has not been delegated by systemd (Delegate=yes)"
    return "" if owner == user else "belongs to another user"


def _delegated(own: Path) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(own, name) == b"1":
                return True
    return False


def _remove_old(own: Path) -> None:
    """Remove the empty groups of daemons that have been killed."""
    with contextlib.suppress(OSError):
        for old in own.glob(f"{_OWN_PREFIX}*"):
            number = old.name.removeprefix(_OWN_PREFIX)
            if number.isdigit() and not Path(f"/proc/{number}").exists() and not files.populated(old):
                for _ in files.removal(old):
                    pass
