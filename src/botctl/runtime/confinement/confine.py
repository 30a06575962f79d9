"""Takes from a bot's process, before any code of the bot runs, whatever isn't its own; tells how far that went.

Levels: `uid`, a uid of its own, within Landlock where the kernel has it; `landlock`, the daemon's uid within Landlock;
`none`. What can't be had leaves a note, never a failed start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from botctl.runtime import linux
from botctl.runtime.confinement import capabilities, identity, landlock, modes, paths, syscalls
from botctl.runtime.confinement.capabilities import Capability
from botctl.runtime.messages import Isolated, Isolation

NEEDED = (Capability.CHOWN, Capability.KILL, Capability.SETGID, Capability.SETUID)
"""What root must have so that bots can have uids of their own; KILL to end them."""

SMALLEST_UID = 1000
"""Below are the system's own; whoever has one of those is never given away to a bot."""


@dataclass
class _State:
    """What has been reached so far."""

    wish: Isolation
    code: str
    cgroup: str
    uid: int = 0
    closed: str = ""
    """What this uid can't read by itself, though the bot needs it."""
    reads_all: bool = False
    """Whether it has kept CAP_DAC_READ_SEARCH, so that modes of files keep nothing from it."""
    notes: list[str] = field(default_factory=list)


def confine(wish: Isolation, code: str, cgroup: str) -> Isolated:
    """Confine this process as far as is wished and possible. Called in a child that has one thread."""
    supervisor = os.getppid()
    state = _State(_with_home(wish), code, cgroup)
    if wish.home and not state.wish.home:
        state.notes.append(f"{wish.home} can't be made")
    state.notes += [f"{path} isn't there" for path in (*wish.read, *wish.write) if not os.path.exists(path)]
    level = "none"
    if wish.level in ("auto", "uid") and _take_uid(state):
        level = "uid"
    if wish.level in ("auto", "landlock") and _enforce_landlock(state) and level == "none":
        level = "landlock"
    if level != "none":
        try:
            # With a uid and no capability, the modes of files say who may watch them.
            syscalls.refuse(listen=wish.listen, watch=bool(state.uid) and not state.closed)
        except OSError as error:
            state.notes.append(f"no filter of system calls: {error}")
    # A change of uid has cleared both.
    linux.die_with_parent(signal.SIGKILL, supervisor)
    linux.undumpable()
    if state.wish.home:
        with contextlib.suppress(OSError):
            identity.live_in(state.wish.home)
    return Isolated(level=level, note="; ".join(state.notes), uid=state.uid)


@functools.cache
def _everybodys() -> list[str]:
    found = [*paths.installed(), str(Path(os.__file__).parent), str(Path(linux.__file__).parents[1])]
    return [*found, str(Path(msgspec.__file__).parent), *paths.certificates()]


def needed(wish: Isolation, code: str) -> list[str]:
    """Without these, or what stands in them, a bot can't begin."""
    found = [*_everybodys(), code, *wish.read]
    if wish.folder:
        found.append(wish.folder)
        with contextlib.suppress(OSError):
            found += [entry.path for entry in os.scandir(wish.folder) if entry.name.endswith(".py")]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]


def warm() -> None:
    """Run once through what every child runs through, but for giving anything up: for a forkserver, before it forks."""
    if landlock.abi():
        ruleset = landlock.Ruleset()
        modes.closed_to(os.geteuid(), "", places=())
        for rule in paths.rules(Isolation(data="/nonexistent"), "", "", shared_memory=False):
            ruleset.allow(*rule)
        ruleset.close()
    if syscalls.is_known(os.uname().machine):
        for watch in (False, True):
            syscalls.program(os.uname().machine, listen=False, watch=watch)
    needed(Isolation(), "")
    why_no_uid()


def why_no_uid() -> str:
    """Why no bot of ours could have a uid of its own; empty when it could."""
    if os.geteuid() != 0:
        return "the daemon isn't root"
    if not capabilities.has(*NEEDED):
        return "root lacks " + ", ".join(f"CAP_{one.name}" for one in NEEDED if not capabilities.has(one))
    return ""


def _with_home(wish: Isolation) -> Isolation:
    if wish.home:
        try:
            identity.make_home(wish)
        except OSError:
            return msgspec.structs.replace(wish, home="")
    return wish


def _take_uid(state: _State) -> bool:
    wish = state.wish
    refusal = why_no_uid() or ("" if wish.home else "it has no folder of its own")
    if refusal:
        state.notes.append(f"no uid of its own: {refusal}")
        return False
    try:
        uid = identity.own_uid(wish)
        if uid < max(SMALLEST_UID, wish.uid_base):
            raise OSError(0, f"uid {uid} is the system's")
        wanted = [*needed(wish, state.code), wish.home]
        writable = [path for path in wish.write if os.path.exists(path)]
        with _being(uid):
            closed = _first_closed(wanted)
            unwritable = [path for path in writable if not _may(path, os.W_OK)]
        if closed and (wish.level != "auto" or not landlock.abi()):
            state.notes.append(f"no uid of its own: {closed} is closed to uid {uid}")
            return False
        identity.give_home(wish.home, uid, uid)
        with contextlib.suppress(OSError):
            os.fchown(1, uid, uid)  # so that what it starts can open /dev/stdout
        _become(uid, *([Capability.DAC_READ_SEARCH] if closed else []))
        _end_leftovers(uid, wish)
    except (OSError, RecursionError) as error:
        if os.geteuid() != 0:
            raise  # neither one thing nor the other
        state.notes.append(f"no uid of its own: {error}")
        return False
    state.uid, state.closed, state.reads_all = uid, closed, bool(closed)
    if closed:
        state.notes.append(f"reads {closed} by CAP_DAC_READ_SEARCH, as far as Landlock lets it")
    state.notes += [f"{path} can't be written by uid {uid}" for path in unwritable]
    return True


def _enforce_landlock(state: _State) -> bool:
    if not landlock.abi():
        state.notes.append("the kernel has no Landlock, or has it switched off")
        return False
    try:
        if os.geteuid() == 0:
            _stay_root(state)
        elif not state.uid:
            capabilities.keep_only()
        ruleset = landlock.Ruleset()
        try:
            own_files = bool(state.uid) and not state.closed
            closed = _closed_by_mode(state)
            for rule in paths.rules(state.wish, state.code, state.cgroup, shared_memory=own_files, closed=closed):
                ruleset.allow(*rule)
            ruleset.enforce()
        finally:
            ruleset.close()
    except OSError as error:
        state.notes.append(f"no Landlock: {error}")
        return False
    if not landlock.handles_ports():
        state.notes.append("the kernel can't keep it from binding ports (Linux 6.7)")
    if not landlock.handles_signals() and not state.uid:
        state.notes.append("the kernel can't keep it from signalling others (Linux 6.12)")
    return True


def _closed_by_mode(state: _State) -> list[str]:
    """What the capability would open, though the uid alone couldn't read it."""
    if not state.reads_all:
        return []
    found = modes.closed_to(os.geteuid(), state.wish.folder, paths.private_paths(state.wish))
    if found.note:
        state.notes.append(found.note)
    return found.paths


def _stay_root(state: _State) -> None:
    """The name of root without its power; what a bot needs and root doesn't own stays readable."""
    if state.wish.home:
        identity.give_home(state.wish.home, os.geteuid(), os.getegid())
    wanted = [*needed(state.wish, state.code), state.wish.home]
    with capabilities.none_in_force():
        closed = _first_closed(wanted)
    kept = [Capability.DAC_READ_SEARCH] if closed else []
    capabilities.drop_bounding(*kept)
    capabilities.keep_only(*kept)
    state.reads_all = bool(kept)


@contextlib.contextmanager
def _being(uid: int) -> Iterator[None]:
    """Act as this uid for a while, with nothing of root's. Raises OSError when there is no such uid here."""
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    try:
        os.setegid(uid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def _become(uid: int, *kept: Capability) -> None:
    """Be this uid and nobody else, for good, with these capabilities alone."""
    capabilities.drop_bounding(*kept)
    if kept:
        capabilities.keep_over_setuid()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    capabilities.keep_only(*kept)


def _end_leftovers(uid: int, wish: Isolation) -> None:
    """KILL whatever else has our uid: what an earlier incarnation has hidden, as nobody else has that uid.

    To be sure that it is nobody else: with a uid of root or of somebody this would end the machine.
    """
    alone = uid >= max(SMALLEST_UID, wish.uid_base) and os.getresuid() == (uid, uid, uid)
    if alone and not capabilities.has(Capability.KILL) and not capabilities.has(Capability.SETUID):
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)


def _first_closed(wanted: list[str]) -> str:
    """The first of these that we may not read, or the folder on the way to it that we may not enter."""
    for path in filter(None, wanted):
        if not _may(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
            for parent in reversed(Path(path).parents):
                if not _may(str(parent), os.X_OK):
                    return str(parent)
            return path
    return ""


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def report(outcome: Isolated) -> None:
    """A line for the bot's log, where a level is not the best there is."""
    if outcome.note:
        print(f"isolation: {outcome.level}; {outcome.note}", file=sys.stderr)  # noqa: T201
