"""What is refused at every level gets through where nothing keeps it: the attacks themselves are worth something.

Those that succeed at the level `none` are shown there. These run in a fork of the test's process, which nobody
confines, against a child that can be dumped.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import botctl
from attack.cases import CASES, Level
from attack.os import intruder
from attack.os.ground import NOBODY, Place, place
from attack.os.terrain import OPEN, Ground, attempt

ALWAYS_REFUSED = [name for name in intruder.NAMES if not any(CASES[name].at(level).startswith(OPEN) for level in Level)]
OUR_HARD_CORE_LIMIT = resource.getrlimit(resource.RLIMIT_CORE)[1]

_ROOT = "only root can be root"
_PREPARED: dict[str, Callable[[Place], None]] = {}
"""What the fork does before it attacks."""
_IMPOSSIBLE: dict[str, Callable[[], str]] = {}
"""Why it can't be shown here; empty where it can."""


def needs_root() -> str:
    return "" if os.geteuid() == 0 else _ROOT


def capable(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> number & 1)


def cores_are_files() -> str:
    if OUR_HARD_CORE_LIMIT == 0:
        return "the limit on core files is 0 here, and can't be raised"
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    return "the kernel hands cores to a program, whatever the limit says" if pattern.startswith("|") else ""


def dump(ground: Place) -> None:
    os.chdir(ground.folder)
    resource.setrlimit(resource.RLIMIT_CORE, (OUR_HARD_CORE_LIMIT, OUR_HARD_CORE_LIMIT))


def packages_of_ours(ground: Place) -> None:
    botctl.__file__ = str(ground.folder / "__init__.py")
    os.__file__ = str(ground.folder / "os.py")


def as_an_ordinary_user(_: Place) -> None:
    account = pwd.getpwnam(NOBODY)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def a_limit(_: Place) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))


_PREPARED |= {
    "write into installed packages, or their compiled files": packages_of_ours,
    "dump core": dump,
    "have a subprocess dump core": dump,
    "raise one's own limits": a_limit,
    "get rights by a set-uid program": as_an_ordinary_user,
}
_IMPOSSIBLE |= {
    "read files of the system that hold secrets": needs_root,
    "open a file by its handle (open_by_handle_at)": lambda: "" if capable(2) else "without CAP_DAC_READ_SEARCH",
    "dump core": lambda: "" if OUR_HARD_CORE_LIMIT else "the limit on core files is 0 here, and can't be raised",
    "have a subprocess dump core": cores_are_files,
    "raise one's own limits": lambda: "" if capable(24) else "without CAP_SYS_RESOURCE nobody can",
    "get rights by a set-uid program": needs_root,
    "become root, or any other uid": needs_root,
    "leave the control group": lambda: needs_root() or ("" if _groups() else "no control groups that can be written"),
    "load code into the kernel, or restart the machine": lambda: "" if capable(16) or capable(22) else "no such right",
}


def _groups() -> bool:
    return any(os.access(f"/sys/fs/cgroup/{name}cgroup.procs", os.W_OK) for name in ("", "unified/", "pids/"))


@pytest.fixture
def victim() -> Iterator[int]:
    """A process that can be dumped and keeps nothing to itself."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()


@pytest.fixture
def here() -> Iterator[Place]:
    with place(pwd.getpwuid(os.geteuid())) as made:
        made.home(1).mkdir(parents=True)
        yield made


def outcome_in_a_fork(name: str, ground: Ground, prepare: Callable[[], None]) -> dict[str, str]:
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(20)
            prepare()
            os.write(sink, json.dumps(attempt(name, ground)).encode())
        os._exit(0)
    os.close(sink)
    with open(source, "rb") as said:
        told = said.read()
    os.waitpid(child, 0)
    assert told, "the fork has said nothing"
    ended: dict[str, str] = json.loads(told)
    return ended


@pytest.mark.parametrize("name", ALWAYS_REFUSED)
def test_it_gets_through_where_nothing_keeps_it(name: str, victim: int, here: Place) -> None:
    if why := _IMPOSSIBLE.get(name, str)():
        pytest.skip(why)
    everybody = dict.fromkeys(("supervisor", "forkserver", "control", "victim"), victim)
    ground = Ground(
        **everybody,
        data=str(here.data),
        folder=str(here.folder),
        socket=str(here.data / "run/api.sock"),
        abstract=here.abstract,
        set_uid=str(here.set_uid),
        shared=str(here.shared),
        home=str(here.home(1)),
        victims_home=str(here.home(2)),
        gentle=True,
    )
    prepare = _PREPARED.get(name, lambda _: None)
    ended = outcome_in_a_fork(name, ground, lambda: prepare(here))
    assert ended["outcome"] == OPEN, ended
